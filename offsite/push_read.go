package offsite

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
)

// readers is how many files are read at once.
const readers = 2

// chunk is a piece of a file on its way to the packs.
type chunk struct {
	file *pushFile
	page int64  // its first
	data []byte // whole pages
}

// sendPacks sends what the vault lacks, and leaves the place of every page in the
// records. Some goroutines read and digest; the others compare, compress and
// encrypt, one a processor. Buffers are a fixed number, so memory is bounded
// whatever the files' sizes.
func (w *pusher) sendPacks(ctx context.Context, have map[string]int64) (err error) {
	// The packer outlives the group's context: packs that are nearly there are
	// worth waiting for, also when another has failed.
	w.packer = newPacker(ctx, w.vault.remote, w.o.Recipients, w.spool.Push)
	w.packer.arrived = w.spool.record
	if w.last != nil {
		w.packer.packs = append(w.packer.packs, w.last.Packs...)
	}
	if err := w.makeRecords(have); err != nil {
		return err
	}
	workers := min(4, runtime.GOMAXPROCS(0)+1) // one may be waiting for the line
	var encoders []*encoder
	for range workers {
		s, err := w.newPageEncoder()
		if err != nil {
			return err
		}
		encoders = append(encoders, s)
	}
	group, ctx := errgroup.WithContext(ctx)
	chunks := make(chan chunk, workers)
	free := make(chan []byte, workers+readers+1)
	for range cap(free) {
		free <- make([]byte, chunkPages*PageSize)
	}
	group.Go(func() error {
		defer close(chunks)
		return w.read(ctx, chunks, free)
	})
	for _, s := range encoders {
		group.Go(func() error {
			defer s.base.Close()
			return s.run(ctx, chunks, free)
		})
	}
	err = group.Wait()
	if closeErr := w.packer.close(err); closeErr != nil && (err == nil || errors.Is(err, context.Canceled)) {
		err = closeErr // it came first, and cancelled the rest
	}
	return err
}

// makeRecords makes the file of records: all zeros, but for the pages that
// earlier attempts have sent in packs that are still there.
func (w *pusher) makeRecords(have map[string]int64) error {
	path := w.spool.path(spoolRecords)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := fsx.Create(path, 0o600)
	if err != nil {
		return err
	}
	w.records = recordFile{f}
	total := int64(0)
	for _, file := range w.files {
		if file != nil {
			total += file.pages
		}
	}
	if err := f.Truncate(total * recordSize); err != nil {
		return err
	}
	for _, pack := range w.spool.arrived {
		if size, ok := have[pack.ID]; !ok || size != pack.Size || w.o.Damaged[pack.ID] {
			continue
		}
		if err := w.reuse(pack); err != nil {
			return err
		}
	}
	w.packer.next = w.spool.nextPack(have)
	return nil
}

// reuse enters the pages of a pack that an earlier attempt has sent.
func (w *pusher) reuse(pack storedPack) error {
	number := w.packer.number(pack.packRef)
	for _, e := range pack.extents {
		f := w.files[e.file]
		if f == nil || e.page < 0 || e.pages <= 0 || e.page > f.pages-e.pages {
			return &failure.Error{
				Op: "push", Subject: w.spool.path(spoolJournal),
				Err: errors.New("it names pages that the snapshot does not have"), Hint: "remove the directory",
			}
		}
		records := make([]record, e.pages)
		for i := range records {
			at := location{number, uint32(e.packPage + int64(i))}
			if pack.layer == baseLayer {
				records[i].baseAt = at
			} else {
				records[i].patchAt = at
			}
		}
		if pack.layer == baseLayer {
			f.baseSent.Store(true)
		}
		if err := w.records.write(f.first+e.page, records); err != nil {
			return err
		}
	}
	return nil
}

// read reads every regular file once, digests it and hands it on: the largest
// first, two at a time, for a database keeps the compressor busy and vectors,
// which hardly shrink, the line. Files that are what was pushed last need no
// reading: their records stay.
func (w *pusher) read(ctx context.Context, chunks chan<- chunk, free chan []byte) error {
	root, err := os.OpenRoot(w.src.Dir)
	if err != nil {
		return sourceError(err)
	}
	defer root.Close()
	group, reading := errgroup.WithContext(ctx)
	group.SetLimit(readers)
	for _, f := range w.bySize() {
		if reading.Err() != nil {
			break
		}
		group.Go(func() error { return w.readOrKeep(reading, root, f, chunks, free) })
	}
	return cmp.Or(group.Wait(), ctx.Err())
}

// bySize returns the regular files, the largest first.
func (w *pusher) bySize() []*pushFile {
	files := slices.DeleteFunc(slices.Clone(w.files), func(f *pushFile) bool { return f == nil })
	slices.SortStableFunc(files, func(a, b *pushFile) int { return cmp.Compare(b.Size, a.Size) })
	return files
}

func (w *pusher) readOrKeep(
	ctx context.Context, root *os.Root, f *pushFile, chunks chan<- chunk, free chan []byte,
) error {
	same, err := w.keepRecords(f)
	if err != nil {
		return err
	}
	if same {
		w.progress.add(f.Size)
		return nil
	}
	return w.readFile(ctx, root, f, chunks, free)
}

// keepRecords takes over the records of a file that was pushed before as it is
// now, and reports whether it could.
func (w *pusher) keepRecords(f *pushFile) (bool, error) {
	if f.last == nil || f.damaged || f.last.SHA256 != f.SHA256 || f.last.Size != f.Size || w.mode != incremental {
		return false, nil
	}
	var batch [recordBatch]record
	for page := int64(0); page < f.pages; page += recordBatch {
		some := batch[:min(recordBatch, f.pages-page)]
		if err := (recordFile{w.last.file}).read(f.last.First+page, some); err != nil {
			return false, err
		}
		if err := w.records.write(f.first+page, some); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (w *pusher) readFile(
	ctx context.Context, root *os.Root, f *pushFile, chunks chan<- chunk, free chan []byte,
) error {
	in, err := root.OpenFile(filepath.FromSlash(f.Path), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return sourceError(err)
	}
	defer in.Close()
	hash := sha256.New()
	size := int64(0)
	for page := int64(0); ; page += chunkPages {
		var buf []byte
		select {
		case buf = <-free:
		case <-ctx.Done():
			return ctx.Err()
		}
		n, err := io.ReadFull(in, buf)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return sourceError(err)
		}
		last := err != nil
		if size += int64(n); size > f.Size {
			return w.changed(f) // its records have no room for more
		}
		hash.Write(buf[:n])
		w.progress.add(int64(n))
		padded := int(pages(int64(n))) * PageSize
		clear(buf[n:padded])
		select {
		case chunks <- chunk{f, page, buf[:padded]}:
		case <-ctx.Done():
			return ctx.Err()
		}
		if last {
			break
		}
	}
	if size != f.Size || hex.EncodeToString(hash.Sum(nil)) != f.SHA256 {
		return w.changed(f)
	}
	return nil
}

func (w *pusher) changed(f *pushFile) error {
	return sourceError(&failure.Error{Op: "push", Subject: filepath.Join(w.src.Dir, f.Path), Kind: failure.Invalid,
		Err:  errors.New("checksum_mismatch: it is not what was snapshotted"),
		Hint: "the local disk may be failing; check it with `atobackupd scrub`"})
}
