package offsite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/snapshot"
)

// Verification is the judgement on one push of a vault, made without a key.
type Verification struct {
	Stamp      snapshot.Stamp `json:"stamp"`
	Push       PushID         `json:"push"`
	Valid      bool           `json:"valid"`
	Superseded bool           `json:"superseded,omitempty"` // a later push of the stamp is there
	Read       int            `json:"objects_read"`
	Bytes      int64          `json:"bytes_read"`
	Errors     []string       `json:"errors"`
}

// VerifyOptions says what is read.
type VerifyOptions struct {
	Signers  crypt.Signers
	Name     string  // a stamp, a push or "latest"; "" verifies all
	Fraction float64 // of the packs, drawn at random: 1 reads all, 0 only looks that they are there

	// MaxBytes, where it is not 0, ends the reading of packs: least recently read
	// ones go first, as Checks has it. BytesPerSecond, where it is not 0, bounds
	// the speed.
	MaxBytes       int64
	BytesPerSecond int64

	// State and Checks are what this machine knows of its target; nil elsewhere.
	// Checks gets what was read; the caller saves it.
	State  *State
	Checks *Checks

	Progress fsx.Progress
}

// Verified is what a verify found.
type Verified struct {
	Snapshots []Verification `json:"snapshots"`
	Findings  []Finding      `json:"findings"`
	Strangers []string       `json:"strangers"` // names that are no part of a vault
	Warnings  []string       `json:"warnings"`
	Packs     int            `json:"packs"`      // that the current pushes need
	PacksRead int            `json:"packs_read"` // in this run
	Bytes     int64          `json:"bytes_read"`
	Empty     bool           `json:"-"` // nothing was ever sent there, and nothing is there
	OldestAt  time.Time      `json:"-"` // when the least recently read pack was read, by Checks
}

// Verify checks the signatures, and the digests of what the pushes need. It is
// an error only when the looking was kept from its work; a vault with nothing in
// it that could be checked is a finding.
func (v *Vault) Verify(ctx context.Context, o VerifyOptions) (result Verified, err error) {
	s, err := v.Survey(ctx, o.Signers)
	if err != nil {
		return result, err
	}
	w := &verifier{vault: v, o: o, survey: s, bad: make(map[string]string), started: time.Now()}
	if err := w.choose(); err != nil {
		return result, err
	}
	if err := w.read(ctx); err != nil {
		return w.result(), err
	}
	if err := w.around(ctx); err != nil {
		return w.result(), err
	}
	return w.result(), nil
}

// verifier is one verify under way.
type verifier struct {
	vault   *Vault
	o       VerifyOptions
	survey  *Survey
	started time.Time
	pushes  []Stored            // those that are verified
	needed  map[string][]Stored // by object
	packs   int

	mu        sync.Mutex
	bad       map[string]string // what is wrong, by object
	extra     []Finding         // about what no push needs
	results   map[PushID]*Verification
	strangers []string
	bytes     int64
	packsRead int
	limiter   *rate.Limiter
}

// choose selects the pushes that are meant.
func (w *verifier) choose() error {
	w.pushes = w.survey.All()
	if w.o.Name != "" {
		name := w.o.Name
		if name == "latest" {
			s, err := latest(w.survey.Current, w.started)
			if err != nil {
				return err
			}
			name = string(s.Push)
		}
		w.pushes = slices.DeleteFunc(
			w.pushes, func(s Stored) bool { return string(s.Stamp) != name && string(s.Push) != name },
		)
		broken := slices.ContainsFunc(w.survey.Unproven, func(u Unproven) bool {
			return string(u.Push) == name || string(u.Stamp) == name
		})
		if len(w.pushes) == 0 && !broken {
			return noSuchSnapshot(name)
		}
	}
	w.needed = w.survey.neededBy(w.pushes)
	w.results = make(map[PushID]*Verification)
	if w.o.BytesPerSecond > 0 {
		w.limiter = rate.NewLimiter(rate.Limit(w.o.BytesPerSecond), readPiece)
	}
	return nil
}

// verifyReaders is how many objects are read at once: two keep the processors
// busy, the third waits for the line.
const verifyReaders = 3

// readPiece is what is read from an object at once.
const readPiece = 256 << 10

// read reads the small objects and as many packs as the options allow.
func (w *verifier) read(ctx context.Context) error {
	var objects, packs []string
	for _, name := range slices.Sorted(maps.Keys(w.needed)) {
		_, isPack := packID(name)
		size, there := w.survey.size(name)
		known := w.o.Checks.size(name)
		switch {
		case !there:
			w.bad[name] = "it is missing"
		case isPack && known > 0 && size != known:
			w.bad[name] = fmt.Sprintf("it has %d bytes of %d", size, known)
		case isPack:
			packs = append(packs, name)
		default:
			objects = append(objects, name)
		}
	}
	w.packs = len(packs)
	packs = w.order(packs)
	budget := w.o.MaxBytes
	total := int64(0)
	for i, name := range packs {
		size, _ := w.survey.size(name)
		if budget > 0 && i > 0 && total+size > budget {
			packs = packs[:i]
			break
		}
		total += size
	}
	group, reading := errgroup.WithContext(ctx)
	group.SetLimit(verifyReaders)
	done := progress{step: "verify", total: total, tell: w.o.Progress}
	for _, name := range append(objects, packs...) {
		if reading.Err() != nil {
			break
		}
		group.Go(func() error { return w.digest(reading, name, &done) })
	}
	return cmp.Or(group.Wait(), ctx.Err())
}

// order puts the packs that were found damaged first, then the least recently
// read ones, and draws the fraction that is wanted.
func (w *verifier) order(packs []string) []string {
	if n := len(packs); w.o.Fraction < 1 {
		rand.Shuffle(n, func(i, j int) { packs[i], packs[j] = packs[j], packs[i] })
		packs = packs[:min(n, int(w.o.Fraction*float64(n)+0.999))]
	}
	if w.o.Checks == nil {
		slices.Sort(packs)
		return packs
	}
	found := make(map[string]bool)
	for _, f := range w.o.Checks.Findings {
		found[f.Object] = true
	}
	rank := func(name string) int {
		if found[name] {
			return 0
		}
		return 1
	}
	slices.SortFunc(packs, func(a, b string) int {
		return cmp.Or(rank(a)-rank(b), w.o.Checks.Read[a].At.Compare(w.o.Checks.Read[b].At), cmp.Compare(a, b))
	})
	return packs
}

// digest reads one object whole and compares it with what each push says.
func (w *verifier) digest(ctx context.Context, name string, done *progress) error {
	digest, n, err := w.vault.digestObject(ctx, name, w.limiter, done)
	if err != nil {
		if !isDamage(err) {
			return err
		}
		w.note(name, n, reason(err))
		return nil
	}
	for _, p := range w.needed[name] {
		if w.survey.needs[p.Push][name] != digest {
			w.note(name, n, "its bytes are not those that were signed")
			return nil
		}
	}
	w.note(name, n, "")
	return nil
}

// note records what reading an object has shown.
func (w *verifier) note(name string, n int64, wrong string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bytes += n
	if _, isPack := packID(name); isPack {
		w.packsRead++
	}
	first := w.needed[name][0]
	v := w.verification(first)
	v.Read++
	v.Bytes += n
	if wrong != "" {
		w.bad[name] = wrong
		return
	}
	if w.o.Checks != nil {
		w.o.Checks.Clean(name, n, w.started)
	}
}

// clean ends what was found of an object beside the pushes, which was read just now.
func (w *verifier) clean(name string, n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.o.Checks != nil {
		w.o.Checks.Clean(name, n, w.started)
	}
}

func (w *verifier) verification(p Stored) *Verification {
	v := w.results[p.Push]
	if v == nil {
		v = &Verification{Stamp: p.Stamp, Push: p.Push, Errors: []string{}}
		w.results[p.Push] = v
	}
	return v
}

// isDamage reports whether an error is about the vault's content: what cannot
// be opened for want of permission, or over a line that broke, says nothing.
func isDamage(err error) bool {
	var f *failure.Error
	return errors.As(err, &f) && f.Kind == failure.Invalid || errors.Is(err, fs.ErrNotExist) ||
		errors.Is(err, errUnreadable)
}

// errUnreadable is a read that failed half-way on the other side.
var errUnreadable = errors.New("it cannot be read to its end")

// reason returns an error's own words without what the caller says anyway.
func reason(err error) string {
	var f *failure.Error
	if errors.As(err, &f) && (f.Kind == failure.Invalid || f.Kind == failure.VaultMismatch) && f.Err != nil {
		return f.Err.Error()
	}
	if errors.Is(err, fs.ErrNotExist) {
		return "it is missing"
	}
	return err.Error()
}

// neverFilled reports whether nothing was ever sent to the vault, so that nothing can
// be missing from it.
func (w *verifier) neverFilled() bool {
	return w.o.State != nil && w.o.State.IsNew() && len(w.survey.All()) == 0 && len(w.survey.Unproven) == 0
}

// digestObject returns the SHA-256 of an object and its size.
func (v *Vault) digestObject(
	ctx context.Context, name string, limiter *rate.Limiter, done *progress,
) (digest string, n int64, err error) {
	r, err := v.openSummed(ctx, name, sums{name: "?"})
	if err != nil {
		return "", 0, err
	}
	defer r.Close()
	buf := make([]byte, readPiece)
	for {
		got, err := r.Read(buf)
		n += int64(got)
		done.add(int64(got))
		if limiter != nil && got > 0 {
			if err := limiter.WaitN(ctx, got); err != nil {
				return "", n, err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return r.digest(), n, nil
		case err == nil:
		case isTransportError(err) || ctx.Err() != nil || errors.Is(err, fs.ErrPermission):
			return "", n, err
		default: // a bad sector
			return "", n, fmt.Errorf("%w: %w", errUnreadable, err)
		}
	}
}

// result puts together what was found.
func (w *verifier) result() Verified {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := Verified{Snapshots: []Verification{}, Findings: []Finding{}, Strangers: append([]string{}, w.strangers...),
		Warnings: append([]string{}, w.survey.Warnings...), Packs: w.packs, PacksRead: w.packsRead, Bytes: w.bytes}
	for _, p := range w.pushes {
		v := w.verification(p)
		v.Superseded = w.survey.IsSuperseded(p.Push)
		for _, name := range slices.Sorted(maps.Keys(w.survey.needs[p.Push])) {
			if wrong := w.bad[name]; wrong != "" {
				v.Errors = append(v.Errors, name+": "+wrong)
			}
		}
		v.Valid = len(v.Errors) == 0
		r.Snapshots = append(r.Snapshots, *v)
	}
	for _, name := range slices.Sorted(maps.Keys(w.bad)) {
		var needing []Stored
		for _, p := range w.needed[name] {
			if !w.survey.IsSuperseded(p.Push) {
				needing = append(needing, p)
			}
		}
		if len(w.needed[name]) == 0 {
			continue // of a push that does not hold: said already
		}
		if len(needing) == 0 { // a sound push of each stamp is there
			r.Warnings = append(r.Warnings, name+": "+w.bad[name]+"; only superseded pushes need it")
			continue
		}
		r.Findings = append(r.Findings, Finding{Object: name, What: w.bad[name], Stamps: stamps(needing)})
	}
	r.Findings = append(r.Findings, w.extra...)
	switch r.Empty = w.neverFilled(); {
	case r.Empty:
	case len(w.survey.Current) == 0:
		r.Findings = append(
			r.Findings,
			Finding{
				Object: snapshotsDir,
				What:   "it holds no snapshot that a trusted signer signed: nothing could be checked",
			},
		)
	}
	for i := range r.Findings {
		r.Findings[i].By, r.Findings[i].Found = "verify", w.started
	}
	if w.o.Checks != nil {
		r.OldestAt = w.o.Checks.Oldest(w.survey, time.Now())
	}
	return r
}
