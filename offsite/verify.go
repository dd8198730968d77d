package offsite

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/snapshot"
)

// Verification is the judgement on one snapshot of a vault, made without a key.
type Verification struct {
	Stamp  snapshot.Stamp `json:"stamp"`
	Push   PushID         `json:"push"`
	Valid  bool           `json:"valid"`
	Read   int            `json:"objects_read"`
	Bytes  int64          `json:"bytes_read"`
	Errors []string       `json:"errors"`
}

// VerifyOptions says how much is read.
type VerifyOptions struct {
	Signer   string
	Fraction float64 // of the packs to read, drawn at random: 1 reads all, 0 only looks that they are there
	Progress func(bytes int64)
}

// Verify checks the signature and the digests of what a snapshot needs. What
// is wrong with the vault is in the Verification; the error is for what kept
// it from looking.
func (v *Vault) Verify(ctx context.Context, s Stored, o VerifyOptions) (Verification, error) {
	result := Verification{Stamp: s.Stamp, Push: s.Push, Errors: []string{}}
	sums, err := v.verified(ctx, s, o.Signer)
	if err != nil {
		return result, result.found(err)
	}
	present, err := v.present(ctx)
	if err != nil {
		return result, err
	}
	var packs []sum
	for _, sum := range sums {
		id, isPack := packID(sum.Name)
		switch {
		case !isPack:
			if err := v.digestObject(ctx, sum, sums, &result, o.Progress); err != nil {
				return result, err
			}
		case !present[id]:
			result.Errors = append(result.Errors, sum.Name+": it is missing")
		default:
			packs = append(packs, sum)
		}
	}
	rand.Shuffle(len(packs), func(i, j int) { packs[i], packs[j] = packs[j], packs[i] })
	packs = packs[:min(len(packs), int(o.Fraction*float64(len(packs))+0.999))]
	slices.SortFunc(packs, func(a, b sum) int { return cmp.Compare(a.Name, b.Name) })
	for _, pack := range packs {
		if err := v.digestObject(ctx, pack, sums, &result, o.Progress); err != nil {
			return result, err
		}
	}
	result.Valid = len(result.Errors) == 0
	return result, nil
}

// found turns an error about the vault's content into a finding and gives the
// others back.
func (r *Verification) found(err error) error {
	var f *failure.Error
	if errors.As(err, &f) && f.Kind == failure.Invalid || errors.Is(err, fs.ErrNotExist) {
		r.Errors = append(r.Errors, err.Error())
		return nil
	}
	return err
}

func (v *Vault) digestObject(ctx context.Context, s sum, sums []sum, result *Verification, progress func(int64)) error {
	r, err := v.openSummed(ctx, s.Name, sums)
	if err != nil {
		return result.found(err)
	}
	defer r.Close()
	n, err := copyCounted(r, progress)
	result.Bytes += n
	result.Read++
	if err == nil {
		err = r.verify()
	}
	return result.found(err)
}

func copyCounted(r *summed, progress func(int64)) (total int64, err error) {
	buf := make([]byte, 256<<10)
	for {
		n, err := r.Read(buf)
		total += int64(n)
		if progress != nil {
			progress(int64(n))
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return total, err
		}
	}
}

// present gives the packs that are there, in packs/ or trash/.
func (v *Vault) present(ctx context.Context) (map[string]bool, error) {
	present := make(map[string]bool)
	for _, dir := range []string{packsDir, trashDir} {
		entries, err := v.remote.List(ctx, dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			if id, ok := packID(packsDir + "/" + e.Name); ok {
				present[id] = true
			}
		}
	}
	return present, nil
}
