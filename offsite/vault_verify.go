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

	// Known, where it is not nil, holds the digests of the packs that earlier
	// calls have read, and gets those of this one: snapshots share packs, and
	// each needs to be read only once.
	Known map[string]string
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
	objects := []string{s.Push.object(manifestSuffix), s.Push.object(infoSuffix)}
	var packs []string
	for name := range sums {
		id, isPack := packID(name)
		switch {
		case !isPack:
		case !present[id]:
			result.Errors = append(result.Errors, name+": it is missing")
		default:
			packs = append(packs, name)
		}
	}
	slices.Sort(result.Errors)
	for _, name := range append(objects, draw(packs, o.Fraction)...) {
		if err := v.digestObject(ctx, name, sums, &result, o); err != nil {
			return result, err
		}
	}
	result.Valid = len(result.Errors) == 0
	return result, nil
}

// draw picks a part of names at random, at least one where the part is not
// nothing, and sorts them.
func draw(names []string, fraction float64) []string {
	rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	names = names[:min(len(names), int(fraction*float64(len(names))+0.999))]
	slices.SortFunc(names, cmp.Compare[string])
	return names
}

// found turns an error about the vault's content into a finding and returns the
// others back.
func (r *Verification) found(err error) error {
	var f *failure.Error
	if errors.As(err, &f) && f.Kind == failure.Invalid || errors.Is(err, fs.ErrNotExist) {
		r.Errors = append(r.Errors, err.Error())
		return nil
	}
	return err
}

func (v *Vault) digestObject(ctx context.Context, name string, sums sums, result *Verification, o VerifyOptions) error {
	if known, ok := o.Known[name]; ok {
		if known != sums[name] {
			return result.found(corrupt(name))
		}
		return nil
	}
	r, err := v.openSummed(ctx, name, sums)
	if err != nil {
		return result.found(err)
	}
	defer r.Close()
	n, err := copyCounted(r, o.Progress)
	result.Bytes += n
	result.Read++
	if err != nil {
		return result.found(err)
	}
	if o.Known != nil {
		o.Known[name] = r.digest()
	}
	return result.found(r.verify())
}

func copyCounted(r io.Reader, progress func(int64)) (total int64, err error) {
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

// present returns the packs that are there, in packs/ or trash/.
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
