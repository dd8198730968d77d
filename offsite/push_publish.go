package offsite

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
)

// errPacksGone is why a sealed push cannot be published.
var errPacksGone = errors.New("a pack that it needs is not there whole any more")

// publish writes what makes the packs a snapshot, the signature last, and then
// takes the map over.
func (w *pusher) publish(ctx context.Context, done *sealed) error {
	dir := spoolPath(w.o.StateDir, w.src.Info.Stamp)
	objects := []struct{ file, suffix string }{
		{spoolManifest, manifestSuffix}, {spoolInfo, infoSuffix}, {spoolSums, sumsSuffix},
	}
	for _, object := range objects {
		if err := w.vault.putFile(ctx, done.Push.object(object.suffix), filepath.Join(dir, object.file)); err != nil {
			return err
		}
	}
	// SHA256SUMS is there now: a prune that looks from here on leaves the packs
	// alone. What one has done before shows here, or a disk that lies.
	if err := w.checkPacks(ctx, done.Packs); err != nil {
		return err
	}
	if err := w.checkObjects(ctx, done.Push, dir); err != nil {
		return err
	}
	if err := w.vault.putFile(ctx, done.Push.object(sigSuffix), filepath.Join(dir, spoolSig)); err != nil {
		return err
	}
	return w.takeMap(done, dir)
}

// putFile stores a local file under name. When the name exists with the same
// bytes it was stored by an attempt whose answer was lost.
func (v *Vault) putFile(ctx context.Context, name, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err = v.remote.Put(ctx, name, f); !errors.Is(err, fs.ErrExist) {
		return err
	}
	same, readErr := v.sameBytes(ctx, name, path)
	if readErr != nil {
		return readErr
	}
	if !same {
		return &failure.Error{
			Op: "push", Subject: name, Err: errors.New("it exists with other bytes"),
			Hint: "does something else write to the vault's directory?",
		}
	}
	return nil
}

func (v *Vault) sameBytes(ctx context.Context, name, path string) (bool, error) {
	local, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer local.Close()
	remote, err := v.remote.Open(ctx, name)
	if err != nil {
		return false, err
	}
	defer remote.Close()
	a, b := sha256.New(), sha256.New()
	if _, err := io.Copy(a, local); err != nil {
		return false, err
	}
	if _, err := io.Copy(b, remote); err != nil {
		return false, err
	}
	return bytes.Equal(a.Sum(nil), b.Sum(nil)), nil
}

// checkPacks lists the packs that the snapshot needs once more.
func (w *pusher) checkPacks(ctx context.Context, packs []packRef) error {
	sizes, err := w.vault.packSizes(ctx)
	if err != nil {
		return err
	}
	if err := w.vault.restoreFromTrash(ctx, packs, sizes, nil); err != nil {
		return err
	}
	for _, p := range packs {
		if size, ok := sizes[p.ID]; !ok || size != p.Size {
			return &failure.Error{
				Op: "push", Subject: packName(p.ID),
				Err:  fmt.Errorf("stored with %d bytes, listed with %d: %w", p.Size, size, errPacksGone),
				Hint: "the next push sends it anew; does something else write to the vault's directory?",
			}
		}
	}
	return nil
}

// checkObjects sees that what the signature will vouch for is there: a prune
// takes an attempt that rested for a week for one that was given up.
func (w *pusher) checkObjects(ctx context.Context, push PushID, dir string) error {
	for file, suffix := range map[string]string{
		spoolManifest: manifestSuffix, spoolInfo: infoSuffix, spoolSums: sumsSuffix,
	} {
		local, err := os.Stat(filepath.Join(dir, file))
		if err != nil {
			return err
		}
		there, err := w.vault.remote.Stat(ctx, push.object(suffix))
		if err != nil {
			return err
		}
		if there.Size != local.Size() {
			return &failure.Error{
				Op: "push", Subject: push.object(suffix),
				Err: fmt.Errorf("stored with %d bytes, it has %d", local.Size(), there.Size),
			}
		}
	}
	return nil
}

// takeMap makes the spooled map the map, unless another push has replaced the
// one that it was made from.
func (w *pusher) takeMap(done *sealed, dir string) error {
	follows := PushID("")
	m, err := openMap(w.mapPath())
	if err == nil {
		follows = m.Push
		m.Close()
	}
	unusable := err != nil || w.last == nil
	if follows == done.Follows || unusable {
		if err := fsx.Rename(filepath.Join(dir, mapName), w.mapPath()); err != nil {
			return err
		}
		m, err := openMap(w.mapPath())
		if err != nil {
			return err
		}
		defer m.Close()
		if err := w.base.sweep(m.Files); err != nil {
			return err
		}
	}
	return dropSpool(w.o.StateDir, w.src.Info.Stamp, time.Now())
}
