package offsite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
)

// packSizes lists the packs of the vault.
func (v *Vault) packSizes(ctx context.Context) (map[string]int64, error) {
	sizes := make(map[string]int64)
	entries, err := v.remote.List(ctx, packsDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if id, ok := packID(packsDir + "/" + e.Name); ok && e.IsFile() {
			sizes[id] = e.Size
		}
	}
	return sizes, nil
}

// restoreFromTrash moves packs out of trash/ that are needed again, and notes them in
// sizes. Where that is not possible, as on an append-only target, they count as
// missing: prune may be about to remove them.
func (v *Vault) restoreFromTrash(
	ctx context.Context, packs []packRef, sizes map[string]int64, damaged map[string]bool,
) error {
	missing := false
	for _, p := range packs {
		if _, ok := sizes[p.ID]; !ok {
			missing = true
		}
	}
	if !missing {
		return nil
	}
	entries, err := v.remote.List(ctx, trashDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	inTrash := make(map[string]int64)
	for _, e := range entries {
		if id, ok := packID(packsDir + "/" + e.Name); ok {
			inTrash[id] = e.Size
		}
	}
	for _, p := range packs {
		size, there := inTrash[p.ID]
		if _, ok := sizes[p.ID]; ok || !there || size != p.Size || damaged[p.ID] {
			continue
		}
		if err := v.remote.Move(ctx, trashName(p.ID), packName(p.ID)); isTransportError(err) || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		} else if err == nil {
			sizes[p.ID] = size
			_ = v.remote.Remove(ctx, trashMarker(p.ID)) // one that stays is swept
		}
	}
	return nil
}

// plan decides, from the map and from what the vault still has, how each file
// is sent.
func (w *pusher) plan(ctx context.Context, have map[string]int64) error {
	w.bad = make(map[uint32]bool)
	if w.last == nil {
		w.forceNewBase("")
		return nil
	}
	for _, f := range w.files {
		if f != nil {
			f.last = w.last.byPath[f.Path]
		}
	}
	used, err := w.measure()
	if err != nil {
		w.forceNewBase(err.Error())
		return nil
	}
	if err := w.checkNeeded(ctx, used, have); err != nil {
		return err
	}
	w.mode = used.chooseMode(w.last.Packs, w.o.RebaseRatio)
	if w.mode == rebase {
		w.forceNewBase("")
		return nil
	}
	for _, f := range w.files {
		if f == nil {
			continue
		}
		lost, err := w.findLost(f)
		if err != nil {
			w.forceNewBase(err.Error())
			return nil
		}
		switch {
		case f.last == nil:
		case !w.base.has(f.last) && f.SHA256 != f.last.SHA256:
			w.warn("%s: its base file is missing: a new base is sent", w.base.path(f.last.Link, f.Path))
			f.last = nil
		case lost*8 > f.pages:
			f.last = nil
		}
		f.newBase = f.last == nil
	}
	return nil
}

// forceNewBase has every file get a new base.
func (w *pusher) forceNewBase(why string) {
	if why != "" {
		w.warn("%s: a new base is sent", why)
	}
	for _, f := range w.files {
		if f != nil {
			f.last, f.newBase = nil, true
		}
	}
}

// measure counts what the records of this snapshot's paths point to.
func (w *pusher) measure() (usage, error) {
	u := usage{make(map[uint32]int64), make(map[uint32]int64)}
	packs := uint32(len(w.last.Packs))
	for _, f := range w.files {
		if f == nil || f.last == nil {
			continue
		}
		err := recordFile{w.last.file}.each(f.last.First, pages(f.last.Size), func(page int64, r record) error {
			if r.baseAt.pack > packs || r.patchAt.pack > packs {
				return fmt.Errorf("%s: page %d of %q points to no pack", w.mapPath(), page, f.Path)
			}
			if !r.baseAt.nowhere() {
				u.basePages[r.baseAt.pack]++
			}
			if !r.patchAt.nowhere() {
				u.patchPages[r.patchAt.pack]++
			}
			return nil
		})
		if err != nil {
			return u, err
		}
	}
	return u, nil
}

// checkNeeded compares the packs that are in use with those that are there.
func (w *pusher) checkNeeded(ctx context.Context, u usage, have map[string]int64) error {
	var needed []packRef
	for i, p := range w.last.Packs {
		if number := uint32(i + 1); u.basePages[number]+u.patchPages[number] > 0 {
			needed = append(needed, p)
		}
	}
	if err := w.vault.restoreFromTrash(ctx, needed, have, w.o.Damaged); err != nil {
		return err
	}
	for i, p := range w.last.Packs {
		number := uint32(i + 1)
		size, there := have[p.ID]
		if there && size == p.Size && !w.o.Damaged[p.ID] {
			continue
		}
		w.bad[number] = true
		if u.basePages[number]+u.patchPages[number] == 0 {
			continue
		}
		what := "it is missing"
		switch {
		case w.o.Damaged[p.ID]:
			continue // that is why it is sent anew
		case there:
			what = fmt.Sprintf("it has %d bytes of %d", size, p.Size)
		}
		w.damage = append(w.damage, packName(p.ID)+": "+what)
	}
	return nil
}

// findLost counts the pages of a file whose base page is gone, and notes
// whether any of its pages is.
func (w *pusher) findLost(f *pushFile) (lostBase int64, err error) {
	if f == nil || f.last == nil || len(w.bad) == 0 {
		return 0, nil
	}
	err = recordFile{w.last.file}.each(f.last.First, pages(f.last.Size), func(_ int64, r record) error {
		if w.bad[r.baseAt.pack] {
			lostBase++
		}
		f.damaged = f.damaged || w.bad[r.baseAt.pack] || w.bad[r.patchAt.pack]
		return nil
	})
	return lostBase, err
}
