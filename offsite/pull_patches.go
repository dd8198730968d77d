package offsite

import (
	"cmp"
	"iter"
	"os"
	"slices"

	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// patchFile holds the patch layer of a snapshot while the base layer is written:
// page after page, file after file. Scattered single pages in the files
// themselves would make every later write to them several times as slow.
type patchFile struct {
	*os.File
	runs [][]patchRun // of each file, by page
}

// patchRun is a run of patched pages of a file.
type patchRun struct {
	page, pages int64
	at          int64 // its first page in the patch file
}

const patchFileName = ".atobackupd-patches"

// newPatchFile makes a patch file in root, without a name: it goes with the process.
func newPatchFile(m *Manifest, root *tree.Dir) (p patchFile, err error) {
	p.runs = make([][]patchRun, len(m.Files))
	at := int64(0)
	for i := range m.Files {
		for _, r := range byPage(m.Files[i].Patch) {
			p.runs[i] = append(p.runs[i], patchRun{r.FilePage, r.Pages, at})
			at += r.Pages
		}
	}
	if p.File, err = root.Create(patchFileName, 0o600); err != nil {
		return p, err
	}
	return p, root.Remove(patchFileName)
}

// byPage returns runs in the order of the file's pages.
func byPage(runs []Run) []Run {
	compare := func(a, b Run) int { return cmp.Compare(a.FilePage, b.FilePage) }
	if slices.IsSortedFunc(runs, compare) {
		return runs
	}
	return slices.SortedFunc(slices.Values(runs), compare)
}

// within returns the runs that lie in [from, to), cut to it, in order.
func (p *patchFile) within(file int, from, to int64) iter.Seq[patchRun] {
	runs := p.runs[file]
	first, _ := slices.BinarySearchFunc(
		runs, from+1, func(r patchRun, after int64) int { return cmp.Compare(r.page+r.pages, after) },
	)
	return func(yield func(patchRun) bool) {
		for _, r := range runs[first:] {
			begin, end := max(r.page, from), min(r.page+r.pages, to)
			if begin >= end || !yield(patchRun{begin, end - begin, r.at + begin - r.page}) {
				return
			}
		}
	}
}

// put stores pages that patch a file from page on.
func (p *patchFile) put(file int, page int64, data []byte) error {
	for r := range p.within(file, page, page+int64(len(data)/PageSize)) {
		if _, err := p.WriteAt(data[(r.page-page)*PageSize:][:r.pages*PageSize], r.at*PageSize); err != nil {
			return err
		}
	}
	return nil
}

// read returns the pages of a run, in buf.
func (p *patchFile) read(r patchRun, buf []byte) ([]byte, error) {
	buf = buf[:r.pages*PageSize]
	_, err := p.ReadAt(buf, r.at*PageSize)
	return buf, err
}
