package offsite

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/snapshot"
)

//go:embed recover.py
var recoverScript []byte

//go:embed vault_readme.txt
var vaultReadme []byte

// RecoverScriptSHA256 is the digest of the recover.py that this program puts
// into vaults, for the recovery sheet.
func RecoverScriptSHA256() string {
	digest := sha256.Sum256(recoverScript)
	return hex.EncodeToString(digest[:])
}

// Vault is an open vault on a remote.
type Vault struct {
	remote Remote
	Info   VaultInfo
}

// ErrNoVault is what OpenVault gives where there is none.
var ErrNoVault = errors.New("there is no vault.json")

// OpenVault reads vault.json. Where there is none the error wraps ErrNoVault.
// What it says is not proven: the caller compares it with what was pinned.
func OpenVault(ctx context.Context, remote Remote) (*Vault, error) {
	data, err := readAll(ctx, remote, vaultFile, maxClearDocument)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoVault
	}
	if err != nil {
		return nil, err
	}
	v := &Vault{remote: remote}
	if err := json.Unmarshal(data, &v.Info); err != nil {
		return nil, &failure.Error{Op: "vault", Subject: vaultFile, Kind: failure.VaultMismatch, Err: err}
	}
	if v.Info.Format != FormatName || v.Info.Version != FormatVersion {
		return nil, &failure.Error{Op: "vault", Subject: vaultFile, Kind: failure.VaultMismatch,
			Err: fmt.Errorf("format %q version %d, this program knows %q version %d", v.Info.Format, v.Info.Version, FormatName, FormatVersion), Hint: "use a newer atobackupd"}
	}
	signer, err := crypt.ParseSigner(v.Info.Signer)
	if err != nil {
		return nil, &failure.Error{Op: "vault", Subject: vaultFile, Kind: failure.VaultMismatch, Err: err}
	}
	v.Info.Signer = signer
	return v, nil
}

// directories are made in every vault.
var directories = []string{packsDir, snapshotsDir, trashDir, incomingDir}

// NewVault makes a vault on an empty remote. It refuses one that holds anything
// that a vault does not: somebody else's directory.
func NewVault(ctx context.Context, remote Remote, info VaultInfo) (*Vault, error) {
	entries, err := remote.List(ctx, ".")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		expected := e.Dir && (slices.Contains(directories, e.Name) || e.Name == "lost+found")
		if !expected && e.Name != readmeFile && e.Name != recoverFile {
			return nil, &failure.Error{Op: "vault", Subject: e.Name, Kind: failure.VaultMismatch,
				Err:  errors.New("the directory is not empty and holds no vault"),
				Hint: "is the right disk mounted there? give the target a path of its own"}
		}
	}
	info.Format, info.Version = FormatName, FormatVersion
	if info.ID, err = randomHex(16); err != nil {
		return nil, err
	}
	data, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return nil, err
	}
	for _, file := range []struct {
		name string
		data []byte
	}{{readmeFile, vaultReadme}, {recoverFile, recoverScript}, {vaultFile, append(data, '\n')}} {
		_, err := remote.Put(ctx, file.name, bytes.NewReader(file.data))
		if err != nil && (!errors.Is(err, fs.ErrExist) || file.name == vaultFile) {
			return nil, err
		}
	}
	return &Vault{remote: remote, Info: info}, nil
}

// Stored is one push that exists in a vault: it has a signature. Info is in the
// clear and unproven until Verified.
type Stored struct {
	Push PushID
	Info
	Uploaded time.Time // the other machine's clock, when the signature arrived
}

// List gives the snapshots that exist in the vault, oldest first; of several
// pushes of one stamp the one with the highest seq. Warnings name objects that
// belong to nothing or cannot be read.
func (v *Vault) List(ctx context.Context) (list []Stored, warnings []string, err error) {
	all, warnings, err := v.pushes(ctx)
	if err != nil {
		return nil, nil, err
	}
	newest := make(map[snapshot.Stamp]Stored)
	for _, s := range all {
		if old, ok := newest[s.Stamp]; !ok || old.Seq < s.Seq {
			newest[s.Stamp] = s
		}
	}
	for _, s := range newest {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b Stored) int { return cmp.Compare(a.Stamp, b.Stamp) })
	return list, warnings, nil
}

// pushes gives every signed push.
func (v *Vault) pushes(ctx context.Context) (list []Stored, warnings []string, err error) {
	entries, err := v.remote.List(ctx, snapshotsDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		name, signed := strings.CutSuffix(e.Name, sigSuffix)
		if !signed {
			continue
		}
		push := PushID(name)
		stamp, ok := push.Stamp()
		if !ok {
			warnings = append(warnings, fmt.Sprintf("%s/%s: not the name of a push", snapshotsDir, e.Name))
			continue
		}
		stored := Stored{Push: push, Uploaded: e.MTime}
		data, err := readAll(ctx, v.remote, push.object(infoSuffix), maxClearDocument)
		if err == nil {
			err = json.Unmarshal(data, &stored.Info)
		}
		if err == nil && stored.Stamp != stamp {
			err = fmt.Errorf("it is about %s", stored.Stamp)
		}
		if err != nil {
			if ctx.Err() != nil || failure.KindOf(err) == failure.Unreachable {
				return nil, nil, err
			}
			warnings = append(warnings, fmt.Sprintf("%s: %v", push.object(infoSuffix), err))
			continue
		}
		list = append(list, stored)
	}
	return list, warnings, nil
}

// Find gives the snapshot named by a stamp, or by "latest": the newest of a
// kind that holds slots. Kind NotFound when there is none.
func (v *Vault) Find(ctx context.Context, name string) (Stored, error) {
	list, _, err := v.List(ctx)
	if err != nil {
		return Stored{}, err
	}
	for _, s := range slices.Backward(list) {
		if string(s.Stamp) == name || (name == "latest" && s.Kind.HoldsSlots()) {
			return s, nil
		}
	}
	return Stored{}, &failure.Error{Op: "vault", Subject: name, Kind: failure.NotFound, Err: errors.New("no such snapshot in the vault"), Hint: "see `atobackupd vault list`"}
}

// verified reads the SHA256SUMS of a push, once its signature by signer holds,
// and the digest of the json that List read.
func (v *Vault) verified(ctx context.Context, s Stored, signer string) ([]sum, error) {
	refuse := func(err error, hint string) error {
		return &failure.Error{Op: "vault", Subject: s.Push.object(sumsSuffix), Kind: failure.Invalid, Err: err, Hint: hint}
	}
	data, err := readAll(ctx, v.remote, s.Push.object(sumsSuffix), maxClearDocument)
	if err != nil {
		return nil, err
	}
	signature, err := readAll(ctx, v.remote, s.Push.object(sigSuffix), maxClearDocument)
	if err != nil {
		return nil, err
	}
	if err := crypt.Verify(data, signature, signer); err != nil {
		return nil, refuse(err, "it was not written by the host that this vault is pinned to; do not restore from it")
	}
	sums, err := parseSums(s.Push, data)
	if err != nil {
		return nil, refuse(err, "")
	}
	info, err := v.fetch(ctx, s.Push.object(infoSuffix), sums, maxClearDocument)
	if err != nil {
		return nil, err
	}
	var proven Info
	if err := json.Unmarshal(info, &proven); err != nil || proven != s.Info {
		return nil, refuse(fmt.Errorf("%s changed while it was read", s.Push.object(infoSuffix)), "try again")
	}
	return sums, nil
}

// fetch reads one object whole and compares it with its digest.
func (v *Vault) fetch(ctx context.Context, name string, sums []sum, limit int64) ([]byte, error) {
	data, err := readAll(ctx, v.remote, name, limit)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(data)
	i := slices.IndexFunc(sums, func(s sum) bool { return s.Name == name })
	if i < 0 || sums[i].SHA256 != hex.EncodeToString(digest[:]) {
		return nil, corrupt(name)
	}
	return data, nil
}

func corrupt(name string) error {
	return &failure.Error{Op: "vault", Subject: name, Kind: failure.Invalid,
		Err: errors.New("its bytes are not those that were signed"), Hint: "the vault is damaged: try another snapshot; the next push heals what it can"}
}

// readAll reads one object of at most limit bytes.
func readAll(ctx context.Context, remote Remote, name string, limit int64) (data []byte, err error) {
	r, err := remote.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	data, err = io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", name, limit)
	}
	return data, nil
}

func randomHex(bytes int) (string, error) {
	b := make([]byte, bytes)
	if _, err := rand.Read(b); err != nil {
		return "", err
	}
	return hex.EncodeToString(b), nil
}

// MakeDirectories makes the directories of a vault at path on this machine, for
// an append-only account that may not make any. There is no vault until a host
// adds vault.json.
func MakeDirectories(path string) error {
	for _, dir := range directories {
		if err := fsx.MkdirAll(filepath.Join(path, dir), 0o700); err != nil {
			return err
		}
	}
	return nil
}
