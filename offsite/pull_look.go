package offsite

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/snapshot"
)

// Files returns the files of a snapshot, as its signed manifest has them.
func (v *Vault) Files(ctx context.Context, s Stored, o PullOptions) ([]FileEntry, error) {
	_, m, err := v.openManifest(ctx, s, o)
	if err != nil {
		return nil, err
	}
	return m.Files, nil
}

// openManifest proves a push and reads its manifest.
func (v *Vault) openManifest(ctx context.Context, s Stored, o PullOptions) (sums, *Manifest, error) {
	sums, err := v.verified(ctx, s, o.Signers)
	if err != nil {
		return nil, nil, err
	}
	m, err := v.manifest(ctx, s, sums, o.Identities)
	return sums, m, err
}

// Dump writes one file of a snapshot to out, reading only the packs that hold
// pages of it. The file is put together in a scratch directory and compared with
// its digest before its first byte is written.
func (v *Vault) Dump(ctx context.Context, s Stored, path string, out io.Writer, o PullOptions) (err error) {
	sums, m, err := v.openManifest(ctx, s, o)
	if err != nil {
		return err
	}
	switch path {
	case snapshot.DB:
		path = snapshot.DBFile
	case snapshot.Registry:
		path = snapshot.RegistryFile
	}
	for name, text := range map[string]string{snapshot.MetadataFile: m.Metadata, snapshot.ManifestFile: m.Atobackupd} {
		if path == name && text != "" {
			_, err := io.WriteString(out, text)
			return err
		}
	}
	only := *m
	only.Files, only.Metadata, only.Atobackupd = nil, "", ""
	for _, f := range m.Files {
		if f.Path == path {
			only.Files = append(only.Files, f)
		}
	}
	if len(only.Files) == 0 {
		return notFound(
			path, errors.New("no such file in the snapshot"), "see `atobackupd vault ls "+string(s.Stamp)+"`",
		)
	}
	if t := only.Files[0].Type; t != snapshot.TypeFile {
		return &failure.Error{
			Op: "vault dump", Subject: path, Kind: failure.Usage,
			Err:  errors.New("it is a " + t + ", not a file"),
			Hint: "name one of its files: atobackupd vault ls " + string(s.Stamp),
		}
	}
	temp, err := tree.Open(os.TempDir(), o.owners())
	if err != nil {
		return err
	}
	defer temp.Close()
	dir, name, err := temp.MkdirTemp("atobackupd-dump-*", 0o700)
	if err != nil {
		return err
	}
	defer dir.Close()
	defer func() { err = errors.Join(err, temp.RemoveAll(name)) }()
	above, err := dir.Attributes(".")
	if err != nil {
		return err
	}
	if err := v.restoreFiles(ctx, &only, sums, dir, above, o); err != nil {
		return err
	}
	f, err := dir.OpenFile(path)
	if err != nil {
		return err
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.Copy(io.MultiWriter(out, hash), f); err != nil {
		return err
	}
	if hex.EncodeToString(hash.Sum(nil)) != only.Files[0].SHA256 {
		return &failure.Error{
			Op: "vault dump", Subject: path,
			Err: errors.New("it was changed in the scratch directory while it was written out"),
		}
	}
	return nil
}
