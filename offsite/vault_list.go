package offsite

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/snapshot"
)

// Stored is one push that exists in a vault: it has a signature. Info is in the
// clear and unproven, except where ListVerified gave it.
type Stored struct {
	Push PushID `json:"push"`
	Info
	Uploaded time.Time `json:"uploaded"` // the other machine's clock, when the signature arrived
}

// List returns the snapshots that exist in the vault, oldest first; of several
// pushes of one stamp the one with the highest seq. Nothing of it is proven.
// Warnings name objects that belong to nothing or cannot be read.
func (v *Vault) List(ctx context.Context) (list []Stored, warnings []string, err error) {
	all, warnings, err := v.pushes(ctx)
	if err != nil {
		return nil, nil, err
	}
	return newest(all), warnings, nil
}

// ListVerified is List over the pushes whose signature by signer and whose json hold;
// it costs three small reads a push. The others are among the warnings and
// count for nothing, so that a forged or damaged one cannot keep a snapshot
// from being sent again.
func (v *Vault) ListVerified(ctx context.Context, signers crypt.Signers) (list []Stored, warnings []string, err error) {
	all, warnings, err := v.pushes(ctx)
	if err != nil {
		return nil, nil, err
	}
	proven, refused, err := v.prove(ctx, all, signers)
	return newest(proven), append(warnings, refused...), err
}

// newest returns the newest push of each stamp, by stamp.
func newest(all []Stored) (list []Stored) {
	byStamp := make(map[snapshot.Stamp]Stored)
	for _, s := range all {
		if old, ok := byStamp[s.Stamp]; !ok || old.Seq < s.Seq {
			byStamp[s.Stamp] = s
		}
	}
	for _, s := range byStamp {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b Stored) int { return cmp.Compare(a.Stamp, b.Stamp) })
	return list
}

// smallReads is how many small objects are read at once: each costs a few round
// trips and next to no bytes.
const smallReads = 8

// pushes returns every signed push, with what its json says.
func (v *Vault) pushes(ctx context.Context) (list []Stored, warnings []string, err error) {
	signed, warnings, err := v.signedPushes(ctx)
	if err != nil {
		return nil, nil, err
	}
	list, refused, err := forEachPush(ctx, signed, v.readInfo)
	return list, append(warnings, refused...), err
}

// signedPushes returns every push that has a signature, by its name alone.
func (v *Vault) signedPushes(ctx context.Context) (list []Stored, warnings []string, err error) {
	entries, err := v.list(ctx, snapshotsDir)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		name, signed := strings.CutSuffix(e.Name, sigSuffix)
		if !signed || !e.IsFile() {
			continue
		}
		stamp, ok := PushID(name).Stamp()
		if !ok {
			warnings = append(warnings, fmt.Sprintf("%q: not the name of a push", snapshotsDir+"/"+e.Name))
			continue
		}
		list = append(list, Stored{Push: PushID(name), Info: Info{Stamp: stamp}, Uploaded: e.MTime})
	}
	return list, warnings, nil
}

// forEachPush runs work over pushes, several at once, and returns those that it had
// nothing against. What a push is guilty of itself becomes a warning; a
// connection that broke ends it.
func forEachPush(
	ctx context.Context, list []Stored, work func(context.Context, *Stored) error,
) (good []Stored, warnings []string, err error) {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(smallReads)
	faults := make([]error, len(list))
	for i := range list {
		group.Go(func() error {
			if faults[i] = work(ctx, &list[i]); isTransportError(faults[i]) || ctx.Err() != nil {
				return cmp.Or(faults[i], ctx.Err())
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, nil, err
	}
	for i, s := range list {
		if faults[i] != nil {
			warnings = append(warnings, fmt.Sprintf("%s: not counted: %v", s.Push, faults[i]))
			continue
		}
		good = append(good, s)
	}
	return good, warnings, nil
}

// isTransportError reports whether an error is of the connection, and not of a
// vault's content.
func isTransportError(err error) bool {
	switch failure.KindOf(err) {
	case failure.Unreachable, failure.Auth, failure.HostKey, failure.Interrupted:
		return true
	}
	return false
}

var kindPattern = regexp.MustCompile(`^[a-z][a-z-]{0,31}$`)

func (v *Vault) readInfo(ctx context.Context, s *Stored) error {
	name := s.Push.object(infoSuffix)
	data, err := v.readOwn(ctx, name, maxInfo)
	if err != nil {
		return err
	}
	if err := s.parseInfo(data); err != nil {
		return &failure.Error{Op: "vault", Subject: name, Kind: failure.Invalid, Err: err, Hint: damagedHint}
	}
	return nil
}

// parseInfo takes the json of a push.
func (s *Stored) parseInfo(data []byte) error {
	if err := json.Unmarshal(data, &s.Info); err != nil {
		return err
	}
	stamp, _ := s.Push.Stamp()
	switch {
	case s.Stamp != stamp:
		return fmt.Errorf("it is about %q", s.Stamp)
	case !kindPattern.MatchString(string(s.Kind)):
		return fmt.Errorf("%q is no kind", s.Kind)
	case s.Seq < 0:
		return fmt.Errorf("seq is %d", s.Seq)
	case len(s.Suspect) > 64 || slices.ContainsFunc(s.Suspect, func(code string) bool { return !printable(code) }):
		return errors.New("its suspect codes are none")
	}
	return nil
}

// Find returns the push that a name means: a stamp (the newest proven push of
// it), a push, or "latest", the newest snapshot that counts. Warnings say what
// was passed over. Kind NotFound when there is none, Invalid when there is one
// that does not prove to be what was signed.
func (v *Vault) Find(ctx context.Context, name string, signers crypt.Signers) (s Stored, warnings []string, err error) {
	survey := &Survey{needs: make(map[PushID]sums), pushes: make(map[PushID]Stored)}
	signed, warnings, err := v.signedPushes(ctx)
	if err != nil {
		return s, nil, err
	}
	if err := survey.prove(ctx, v, signed, signers); err != nil {
		return s, nil, err
	}
	if name == "latest" {
		s, err = latest(survey.Current, time.Now())
		for _, u := range survey.Unproven {
			if stamp, _ := u.Push.Stamp(); stamp > s.Stamp {
				warnings = append(warnings, fmt.Sprintf("%s is newer and is passed over: %v", stamp, u.Err))
			}
		}
		return s, warnings, err
	}
	for _, s := range slices.Concat(survey.Current, survey.Superseded) {
		if string(s.Stamp) == name || string(s.Push) == name {
			return s, warnings, nil
		}
	}
	for _, u := range survey.Unproven {
		if stamp, _ := u.Push.Stamp(); string(stamp) == name || string(u.Push) == name {
			return u.Stored, warnings, u.Err
		}
	}
	return s, warnings, noSuchSnapshot(name)
}

// latest returns the newest snapshot that counts.
func latest(list []Stored, now time.Time) (Stored, error) {
	for _, s := range slices.Backward(list) {
		if snapshot.Eligible(s.Stamp, s.Kind, now) {
			return s, nil
		}
	}
	return Stored{}, noSuchSnapshot("latest")
}

func noSuchSnapshot(name string) error {
	return notFound(name, errors.New("no such snapshot in the vault"), "see `atobackupd vault list`")
}

func notFound(subject string, err error, hint string) error {
	return &failure.Error{Op: "vault", Subject: subject, Kind: failure.NotFound, Err: err, Hint: hint}
}

// prove keeps the pushes that signer has signed.
func (v *Vault) prove(
	ctx context.Context, all []Stored, signers crypt.Signers,
) (proven []Stored, warnings []string, err error) {
	return forEachPush(ctx, all, func(ctx context.Context, s *Stored) error {
		_, err := v.verified(ctx, *s, signers)
		return err
	})
}

// sums holds the digest of each object that a push needs, by its name from the
// vault's root.
type sums map[string]string

// verified is proof for a push whose json List read: that must be the proven one.
func (v *Vault) verified(ctx context.Context, s Stored, signers crypt.Signers) (sums, error) {
	all, info, err := v.proof(ctx, s.Push, signers)
	if err != nil {
		return nil, err
	}
	if !info.equal(s.Info) {
		return nil, &failure.Error{
			Op: "vault", Subject: s.Push.object(sumsSuffix), Kind: failure.Invalid,
			Err: fmt.Errorf("%s changed while it was read", s.Push.object(infoSuffix)), Hint: "try again",
		}
	}
	return all, nil
}

// proof reads the SHA256SUMS of a push, once its signature by signer holds, and then
// its json, by the digest that is signed.
func (v *Vault) proof(ctx context.Context, push PushID, signers crypt.Signers) (all sums, info Info, err error) {
	data, err := v.readOwn(ctx, push.object(sumsSuffix), maxSums)
	if err != nil {
		return nil, info, err
	}
	signature, err := v.readOwn(ctx, push.object(sigSuffix), maxInfo)
	if err != nil {
		return nil, info, err
	}
	if err := verifySignature(signers, push.object(sumsSuffix), data, signature); err != nil {
		return nil, info, err
	}
	lines, err := parseSums(push, data)
	if err != nil {
		return nil, info, &failure.Error{Op: "vault", Subject: push.object(sumsSuffix), Kind: failure.Invalid, Err: err}
	}
	all = make(sums, len(lines))
	for _, line := range lines {
		all[line.Name] = line.SHA256
	}
	document, err := v.fetch(ctx, push.object(infoSuffix), all, maxInfo)
	if err != nil {
		return nil, info, err
	}
	proven := Stored{Push: push}
	if err := proven.parseInfo(document); err != nil {
		return nil, info, &failure.Error{Op: "vault", Subject: push.object(infoSuffix), Kind: failure.Invalid, Err: err}
	}
	return all, proven.Info, nil
}

// verifySignature checks the signature of an object, and names the one of the two
// that is wrong as far as that can be told.
func verifySignature(signers crypt.Signers, name string, data, signature []byte) error {
	err := signers.Verify(data, signature)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, crypt.ErrDamagedSignature):
		return &failure.Error{
			Op: "vault", Subject: name + ".sig", Kind: failure.Invalid, Err: crypt.ErrDamagedSignature, Hint: damagedHint,
		}
	}
	var f *failure.Error
	if errors.As(err, &f) {
		err = f.Err
	}
	return &failure.Error{
		Op: "vault", Subject: name, Kind: failure.Invalid,
		Err: fmt.Errorf("it is not what %s.sig signs: %w", path.Base(name), err),
		Hint: "one of the two is damaged, or another host wrote it than the one that is trusted; do not restore " +
			"from it",
	}
}

// fetch reads one object whole and returns it once it has its signed digest: nobody
// decrypts or parses what the vault's disk, or whoever writes there, has made of it.
func (v *Vault) fetch(ctx context.Context, name string, sums sums, limit int64) ([]byte, error) {
	data, err := v.readOwn(ctx, name, limit)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(data)
	if sums[name] != hex.EncodeToString(digest[:]) {
		return nil, corrupt(name)
	}
	return data, nil
}

const damagedHint = "the vault is damaged: run sync on the host, which sends anew what it still has, or try another " +
	"snapshot"

func corrupt(name string) error {
	return damagedObject(name, "its bytes are not those that were signed")
}

func damagedObject(name, what string) error {
	return &failure.Error{
		Op: "vault", Subject: name, Kind: failure.Invalid, Err: errors.New(what), Hint: damagedHint,
	}
}

// readOwn is readAll for an object of a push that exists: where one is missing, the
// push is damaged.
func (v *Vault) readOwn(ctx context.Context, name string, limit int64) ([]byte, error) {
	data, err := readAll(ctx, v.remote, name, limit)
	if errors.Is(err, fs.ErrNotExist) {
		err = damagedObject(name, "it is missing")
	}
	return data, err
}

// readAll reads one object of at most limit bytes.
func readAll(ctx context.Context, remote Remote, name string, limit int64) (data []byte, err error) {
	r, err := openPlain(ctx, remote, name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return readLimited(r, name, limit)
}

// readLimited reads at most limit bytes of what name names.
func readLimited(r io.Reader, name string, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, &failure.Error{
			Op: "vault", Subject: name, Kind: failure.Invalid,
			Err: fmt.Errorf("it has more than %d bytes", limit),
		}
	}
	return data, nil
}
