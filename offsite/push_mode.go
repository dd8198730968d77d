package offsite

// mode is how a push treats the pages that it has a map of.
type mode int

const (
	incremental mode = iota // what changed goes as a patch against its base
	consolidate             // every page that has a patch is sent anew
	rebase                  // every page is sent anew, as a base
)

// usage is what the records of a snapshot's paths point to.
type usage struct {
	basePages, patchPages map[uint32]int64 // by pack: pages that are in use
}

// chooseMode bounds how the layers grow. When the patch packs outweigh the base
// packs times ratio, sending all patches anew lets the old packs die with the
// snapshots of their days. It helps as far as the packs hold pages that nobody
// uses any more; where even the pages in use outweigh the bound, only a new
// base does.
func (u usage) chooseMode(packs []packRef, ratio float64) mode {
	var base, patch, needed float64
	for i := range packs {
		number := uint32(i + 1)
		size := float64(packs[i].Size)
		if u.basePages[number] > 0 {
			base += size
		}
		if used := u.patchPages[number]; used > 0 {
			patch += size
			needed += size * float64(used) / float64(max(used, packs[i].Pages))
		}
	}
	bound := base * ratio
	switch {
	case patch <= bound:
		return incremental
	case needed <= bound:
		return consolidate
	}
	return rebase
}
