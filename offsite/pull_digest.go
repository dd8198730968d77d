package offsite

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/snapshot"
)

// fileDigest follows the writing of a file and digests what is complete, in
// order, while it is still in memory.
type fileDigest struct {
	mu    sync.Mutex
	busy  bool              // somebody is digesting
	next  int64             // all pages before it are digested
	freed int64             // all pages before it have been asked out of the page cache
	ready map[int64]int64   // final pages from there on: first page to the page after the last
	hash  hash.Hash         // of the pages before next; nil at first and in the end
	done  bool              // next is the end
	sum   [sha256.Size]byte // once done
}

// fillHoles begins with the pages that no base run will write: they are final,
// as holes or as patches of nothing.
func (f *restorer) fillHoles(ctx context.Context) (err error) {
	w, err := f.newPackReader(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	for i := range f.manifest.Files {
		e := &f.manifest.Files[i]
		if e.Type != snapshot.TypeFile {
			continue
		}
		end := int64(0)
		for _, r := range append(slices.Clip(byPage(e.Base)), Run{FilePage: pages(e.Size)}) {
			if err := w.fillHole(i, end, r.FilePage); err != nil {
				return err
			}
			end = r.FilePage + r.Pages
		}
		if err := w.hashReady(i); err != nil {
			return err
		}
	}
	return nil
}

// fillHole writes the patches into a range that has no base.
func (w *packReader) fillHole(file int, from, to int64) error {
	w.digests[file].add(from, to)
	for r := range w.patches.within(file, from, to) {
		f, size, err := w.at(file)
		if err != nil {
			return err
		}
		for n := int64(0); n < r.pages; n += chunkPages {
			patch, err := w.patches.read(patchRun{r.page + n, min(chunkPages, r.pages-n), r.at + n}, w.more)
			if err != nil {
				return err
			}
			if _, err := f.WriteAt(trimToSize(patch, r.page+n, size), (r.page+n)*PageSize); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *fileDigest) add(from, to int64) {
	if from >= to {
		return
	}
	if d.ready == nil {
		d.ready = make(map[int64]int64)
	}
	d.ready[from] = to
}

// markWritten notes that pages are final.
func (w *packReader) markWritten(file int, from, to int64) error {
	d := &w.digests[file]
	d.mu.Lock()
	d.add(from, to)
	d.mu.Unlock()
	return w.hashReady(file)
}

// hashReady digests the pages of a file that are final and next, unless another
// is at it: then that one goes on with them.
func (w *packReader) hashReady(file int) error {
	d := &w.digests[file]
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.busy || d.done {
		return nil
	}
	d.busy = true
	defer func() { d.busy = false }()
	for {
		to, more := d.ready[d.next]
		end := d.next == pages(w.manifest.Files[file].Size)
		if !more && !end {
			return nil
		}
		if d.hash == nil {
			d.hash = sha256.New()
		}
		if end {
			d.hash.Sum(d.sum[:0])
			d.done = true
			d.hash, d.ready = nil, nil // there may be 100,000 files
			return nil
		}
		delete(d.ready, d.next)
		d.mu.Unlock()
		err := w.digest(file, d.hash, d.next, to)
		d.mu.Lock()
		if err != nil {
			return err
		}
		d.next = to
	}
}

// digest digests some pages of a file and has the kernel begin to write them
// out, so that there is less to wait for at the end.
func (w *packReader) digest(file int, hash hash.Hash, page, end int64) error {
	f, size, err := w.at(file)
	if err != nil {
		return err
	}
	for ; page < end; page += chunkPages {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		data := trimToSize(w.more[:min(end-page, chunkPages)*PageSize], page, size)
		if _, err := f.ReadAt(data, page*PageSize); err != nil {
			return err
		}
		hash.Write(data)
		if len(data) == len(w.more) { // smaller ones are gathered
			// As well as it can be done: it only makes the end quicker.
			_ = unix.SyncFileRange(int(f.Fd()), page*PageSize, int64(len(data)), unix.SYNC_FILE_RANGE_WRITE)
		}
		if w.uncached {
			w.digests[file].free(f, page)
		}
	}
	return nil
}

// How far behind the digest pages are asked out of the page cache, by when they have
// mostly been written out and can go, and how many at a time.
const (
	freeBehind = 48 * chunkPages
	freeStep   = 16 * chunkPages
)

// free asks the pages that lie well before the given one out of the page cache; what
// is not written out yet stays, until the next time. New pages take their room: where
// a hypervisor takes back what is free, the first use of any other is slow, ten times
// as slow as all the rest of writing it.
func (d *fileDigest) free(f *os.File, page int64) {
	if to := page - freeBehind; to >= d.freed+freeStep {
		_ = unix.Fadvise(int(f.Fd()), 0, to*PageSize, unix.FADV_DONTNEED)
		d.freed = to
	}
}

// matches reports whether all of a file was digested and is what it was.
func (d *fileDigest) matches(e *FileEntry) bool {
	return e.Type != snapshot.TypeFile || d.done && hex.EncodeToString(d.sum[:]) == e.SHA256
}
