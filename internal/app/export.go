package app

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/snapshot"
)

// ExportRequest says what to export, where to, and for whom.
type ExportRequest struct {
	Name         string    // a stamp or "latest"
	To           string    // the file to make; "" writes to Out
	Out          io.Writer // where there is no file
	Recipients   []string  // instead of the configuration's
	Force        bool      // replace the file at To
	AllowInvalid bool      // export a snapshot that was found invalid
}

// Exported is the document of `export`.
type Exported struct {
	Stamp        snapshot.Stamp `json:"stamp"`
	Path         string         `json:"path"`  // of the file that was made
	Bytes        int64          `json:"bytes"` // of that file
	SHA256       string         `json:"sha256"`
	Files        int            `json:"files"` // in the snapshot
	ContentBytes int64          `json:"content_bytes"`
	Recipients   []string       `json:"recipients"`
	DurationMS   int64          `json:"duration_ms"`
}

// Export writes one local snapshot as a tar.zst.age file, which age, zstd and
// tar read without this program. The file appears when it is whole and on disk,
// or not at all. What goes to Out is whole when there was no error.
func (a *App) Export(ctx context.Context, r ExportRequest) (doc Exported, err error) {
	start := time.Now()
	recipients, err := a.exportRecipients(r)
	if err != nil {
		return doc, err
	}
	snap, err := a.Find(ctx, r.Name, start)
	if err != nil {
		return doc, err
	}
	if !r.AllowInvalid && snap.Valid != nil && !*snap.Valid {
		return doc, &failure.Error{Op: "export", Subject: string(snap.Stamp), Kind: failure.Invalid,
			Err:  fmt.Errorf("it is not valid: %s", strings.Join(snap.Errors, "; ")),
			Hint: "see `atobackupd list` for others, or give --allow-invalid to export it as it is"}
	}
	hold, err := a.store.LockShared(snap.Stamp)
	if err != nil {
		return doc, err
	}
	defer hold.Unlock()
	e := export{a: a, snap: snap, recipients: recipients, hash: sha256.New()}
	if r.To == "" {
		err = e.write(ctx, r.Out)
	} else {
		err = e.file(ctx, r.To, r.Force)
	}
	if err != nil {
		err = exportFailure(snap.Stamp, r.To, err)
		a.confirmRead(ctx, snap.Stamp, err)
		return doc, err
	}
	return Exported{
		Stamp: snap.Stamp, Path: r.To, Bytes: e.written, SHA256: hex.EncodeToString(e.hash.Sum(nil)), Files: e.files,
		ContentBytes: e.content,
		Recipients:   recipients.Strings(), DurationMS: time.Since(start).Milliseconds(),
	}, nil
}

func (a *App) exportRecipients(r ExportRequest) (*crypt.Recipients, error) {
	if len(r.Recipients) > 0 {
		recipients, err := crypt.ParseRecipients(r.Recipients)
		if err != nil {
			return nil, &failure.Error{Op: "export", Subject: "--recipient", Kind: failure.Usage, Err: err}
		}
		return recipients, nil
	}
	encryption := a.Config.Encryption
	if len(encryption.Recipients) == 0 && encryption.RecipientsFile == "" {
		return nil, &failure.Error{Op: "export", Kind: failure.Usage,
			Err:  errors.New("there is nobody to seal it to: the configuration has no encryption.recipients"),
			Hint: "give a public key with --recipient: nothing leaves in the clear"}
	}
	return crypt.LoadRecipients(encryption.Recipients, encryption.RecipientsFile)
}

// export is one archive being written.
type export struct {
	a                *App
	snap             snapshot.Snapshot
	recipients       *crypt.Recipients
	hash             hash.Hash
	written, content int64
	files            int
}

// file makes the archive beside its name and renames it there. A crash may leave
// the temporary, a hidden file, and never half an archive under the name.
func (e *export) file(ctx context.Context, to string, force bool) (err error) {
	if err := e.destination(to, force); err != nil {
		return err
	}
	f, err := fsx.CreateTemp(filepath.Dir(to), "."+filepath.Base(to)+".*", 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if err := e.write(ctx, f); err != nil {
		return err
	}
	if err := e.sealed(f); err != nil {
		return err
	}
	if err := errors.Join(fsx.Sync(f), f.Close()); err != nil {
		return err
	}
	if force {
		return fsx.Rename(f.Name(), to)
	}
	return fsx.RenameNoReplace(f.Name(), to)
}

// destination refuses before the work what would be refused after it.
func (e *export) destination(to string, force bool) error {
	dir, err := filepath.EvalSymlinks(filepath.Dir(to))
	if err != nil {
		return err
	}
	backups, err := filepath.EvalSymlinks(e.a.store.Dir())
	if err != nil {
		return err
	}
	if rel, err := filepath.Rel(backups, dir); err == nil && filepath.IsLocal(rel) {
		return &failure.Error{Op: "export", Subject: to, Kind: failure.Usage,
			Err: fmt.Errorf("it would lie among the backups in %s", backups), Hint: "name a file elsewhere"}
	}
	info, err := os.Lstat(to)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return &failure.Error{Op: "export", Subject: to, Kind: failure.Usage,
			Err: errors.New("it exists and is no file"), Hint: "name a file to make"}
	case !force:
		return fs.ErrExist
	}
	return nil
}

// write sends the archive to w. Whatever goes wrong, the age file is then cut
// short, which age notices.
func (e *export) write(ctx context.Context, w io.Writer) error {
	out := bufio.NewWriterSize(io.MultiWriter(w, e.hash, counter{&e.written}), 1<<18)
	sealed, err := e.recipients.Seal(out)
	if err != nil {
		return err
	}
	_, level := zstd.EncoderLevelFromString(e.a.Config.Encryption.Compression)
	packed, err := zstd.NewWriter(sealed, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(2))
	if err != nil {
		return err
	}
	var done int64
	e.files, e.content, err = e.snap.Archive(ctx, packed, func(n int64) {
		done += n
		e.a.progress("export "+string(e.snap.Stamp), done, e.snap.Bytes)
	})
	if err != nil {
		packed.Reset(nil) // lets go of its goroutines without an end of file
		return err
	}
	if err := packed.Close(); err != nil {
		return err
	}
	if err := sealed.Close(); err != nil {
		return err
	}
	return out.Flush()
}

// sealed reads back what was written: nothing leaves in the clear.
func (e *export) sealed(f *os.File) error {
	head := make([]byte, crypt.HeaderLen)
	if _, err := f.ReadAt(head, 0); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !crypt.IsHeader(head) || info.Size() != e.written {
		return fmt.Errorf("%s: what was read back is not what was written", f.Name())
	}
	return nil
}

// counter adds up what is written to it.
type counter struct{ n *int64 }

func (c counter) Write(p []byte) (int, error) {
	*c.n += int64(len(p))
	return len(p), nil
}

func exportFailure(stamp snapshot.Stamp, to string, err error) error {
	var known *failure.Error
	switch {
	case errors.As(err, &known):
		return err
	case errors.Is(err, fs.ErrExist):
		return &failure.Error{Op: "export", Subject: to, Kind: failure.Refused, Err: errors.New("it exists"),
			Hint: "name another file, or give --force to replace it"}
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return &failure.Error{Op: "export", Subject: to, Kind: failure.NoSpace, Err: err,
			Hint: "nothing was left of it; name a file where there is room"}
	case to != "" && errors.Is(err, fs.ErrNotExist):
		return &failure.Error{Op: "export", Subject: to, Err: err, Hint: "name a file in a directory that is there"}
	}
	return &failure.Error{Op: "export", Subject: string(stamp), Err: err}
}
