package offsite

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/retention"
	"github.com/atocore/atobackupd/snapshot"
)

// document is a kind of signed documents beside the pushes: <dir>/<SEQ><suffix>
// and, written after it, <SEQ><suffix>.sig.
type document struct {
	dir, suffix string
	limit       int64
}

var (
	policyDocument = document{policyDir, ".json", 1 << 20}
	hostDocument   = document{hostDir, ".age", 16 << 20}
)

// documentsRead is how many documents of a kind are read, the newest first: more
// than two are there only while older ones wait to be removed.
const documentsRead = 32

var documentPattern = regexp.MustCompile(`^([0-9]{1,9})(\.json|\.age)(\.sig)?$`)

// parse returns the number of a document, and whether name is its signature.
func (k document) parse(name string) (seq int64, sig, ok bool) {
	m := documentPattern.FindStringSubmatch(name)
	if m == nil || m[2] != k.suffix {
		return 0, false, false
	}
	seq, err := strconv.ParseInt(m[1], 10, 64)
	return seq, m[3] != "", err == nil
}

func (k document) belongs(name string) bool { _, _, ok := k.parse(name); return ok }

func (k document) name(seq int64) string { return fmt.Sprintf("%s/%06d%s", k.dir, seq, k.suffix) }

// signedDocument is a document that a trusted signer signed.
type signedDocument struct {
	Seq     int64
	Name    string
	Data    []byte
	Arrived time.Time // of its signature, by the other machine's clock
}

// documents returns the proven documents of a kind, the newest first, and says
// what is wrong with the others. One that lacks its signature is being written.
func (v *Vault) documents(
	ctx context.Context, k document, signers crypt.Signers,
) (list []signedDocument, faults []Finding, err error) {
	entries, err := v.list(ctx, k.dir)
	if err != nil {
		return nil, nil, err
	}
	bodies := make(map[int64]Entry)
	for _, e := range entries {
		if seq, sig, ok := k.parse(e.Name); ok && !sig && e.IsFile() {
			bodies[seq] = e
		}
	}
	for _, e := range entries {
		seq, sig, ok := k.parse(e.Name)
		if !ok || !sig || !e.IsFile() {
			continue
		}
		d := signedDocument{Seq: seq, Name: k.dir + "/" + bodies[seq].Name, Arrived: e.MTime}
		if _, there := bodies[seq]; !there {
			faults = append(faults, Finding{Object: k.name(seq), What: "it is missing, and its signature is there"})
			continue
		}
		list = append(list, d)
	}
	slices.SortFunc(list, func(a, b signedDocument) int { return cmp.Compare(b.Seq, a.Seq) })
	list = list[:min(len(list), documentsRead)]
	proven := list[:0]
	for _, d := range list {
		err := v.readDocument(ctx, k, &d, signers)
		if isTransportError(err) || ctx.Err() != nil {
			return nil, nil, cmp.Or(err, ctx.Err())
		}
		if err != nil {
			f := Finding{Object: d.Name, What: reason(err)}
			var about *failure.Error
			if errors.As(err, &about) && strings.HasPrefix(about.Subject, k.dir+"/") {
				f.Object = about.Subject
			}
			faults = append(faults, f)
			continue
		}
		proven = append(proven, d)
	}
	return proven, faults, nil
}

func (v *Vault) readDocument(ctx context.Context, k document, d *signedDocument, signers crypt.Signers) (err error) {
	if d.Data, err = readAll(ctx, v.remote, d.Name, k.limit); err != nil {
		return err
	}
	signature, err := readAll(ctx, v.remote, d.Name+".sig", maxInfo)
	if err != nil {
		return err
	}
	return verifySignature(signers, d.Name, d.Data, signature)
}

// putDocument writes a document under the number after the highest that any name
// there has or that the state remembers, and its signature after it.
func (v *Vault) putDocument(
	ctx context.Context, k document, data []byte, signer *crypt.Signer, state *State,
) (seq int64, err error) {
	entries, err := v.list(ctx, k.dir)
	if err != nil {
		return 0, err
	}
	seq = state.Documents[k.dir]
	for _, e := range entries {
		if n, _, ok := k.parse(e.Name); ok {
			seq = max(seq, n)
		}
	}
	seq++
	signature, err := signer.Sign(data)
	if err != nil {
		return 0, err
	}
	if _, err := v.remote.Put(ctx, k.name(seq), bytes.NewReader(data)); err != nil {
		return 0, err
	}
	if _, err = v.remote.Put(ctx, k.name(seq)+".sig", bytes.NewReader(signature)); err != nil {
		return seq, err
	}
	state.wrote(k, seq)
	return seq, nil
}

// wrote remembers the number of the newest document of a kind.
func (s *State) wrote(k document, seq int64) {
	if s.Documents == nil {
		s.Documents = make(map[string]int64)
	}
	s.Documents[k.dir] = max(s.Documents[k.dir], seq)
}

// WroteHost reports whether this machine remembers the number of a host document, which
// earlier versions did not.
func (s *State) WroteHost() bool { return s.Documents[hostDir] > 0 }

// lostDocument is a document that this machine wrote and that is no longer there, or
// whose signature is not, where the newest that is sound is an older one.
func (s *State) lostDocument(
	k document, entries []Entry, sound []signedDocument, faults []Finding,
) (f Finding, lost bool) {
	seq := s.Documents[k.dir]
	if seq == 0 || len(sound) > 0 && sound[0].Seq >= seq {
		return f, false
	}
	name := k.name(seq)
	told := slices.ContainsFunc(faults, func(f Finding) bool { return strings.TrimSuffix(f.Object, ".sig") == name })
	f = Finding{Object: name, What: "it is missing"}
	if slices.ContainsFunc(entries, func(e Entry) bool { return k.dir+"/"+e.Name == name }) {
		f.Object += ".sig"
	}
	return f, !told
}

// thinDocuments removes documents that the newest proven one has replaced for
// longer than grace.
func (v *Vault) thinDocuments(
	ctx context.Context, k document, signers crypt.Signers, now time.Time, grace time.Duration,
) (removed []string, err error) {
	list, _, err := v.documents(ctx, k, signers)
	if err != nil {
		return nil, err
	}
	for i, d := range list {
		if i == 0 || now.Sub(list[i-1].Arrived) <= grace {
			continue
		}
		for _, name := range []string{d.Name + ".sig", d.Name} {
			if err := v.remote.Remove(ctx, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return removed, err
			}
			removed = append(removed, name)
		}
	}
	return removed, nil
}

// IsDocument reports whether an object is a signed document, or all of a kind.
func IsDocument(object string) bool {
	return strings.HasPrefix(object, policyDir+"/") || strings.HasPrefix(object, hostDir+"/")
}

// RemoveDocument removes a damaged document and its signature, unless a lock keeps
// them.
func (v *Vault) RemoveDocument(ctx context.Context, object string) error {
	if !IsDocument(object) || strings.HasSuffix(object, "/") {
		return nil
	}
	object = strings.TrimSuffix(object, ".sig")
	for _, name := range []string{object + ".sig", object} {
		if err := v.discard(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// ThinDocuments removes the documents that later ones have replaced for longer
// than the waiting time.
func (v *Vault) ThinDocuments(ctx context.Context, signers crypt.Signers, now time.Time) error {
	for _, k := range []document{policyDocument, hostDocument} {
		if _, err := v.thinDocuments(ctx, k, signers, now, supersededGrace); err != nil {
			return err
		}
	}
	return nil
}

// PolicyDocument is policy/<SEQ>.json: what the host wants kept, signed. Where the
// second machine prunes, it can pin and lengthen, never shorten or forget: there
// Accepted, which ends a protection, and Forgotten decide nothing. The host, where
// it prunes itself, knows both; they tell a reader why something is missing.
type PolicyDocument struct {
	VaultID   string           `json:"vault_id"`
	Retention retention.Policy `json:"retention"`
	Pinned    []snapshot.Stamp `json:"pinned"`
	Suspect   []snapshot.Stamp `json:"suspect"`
	Accepted  []snapshot.Stamp `json:"accepted"`
	Forgotten []PushID         `json:"forgotten"`
}

// PutPolicy writes a policy document unless the newest proven one says the same.
// It returns its number, or 0 when nothing was written. The state remembers it; the
// caller saves that.
func (v *Vault) PutPolicy(
	ctx context.Context, p PolicyDocument, signer *crypt.Signer, signers crypt.Signers, state *State,
) (seq int64, err error) {
	p.VaultID = v.Info.ID
	for _, list := range []*[]snapshot.Stamp{&p.Pinned, &p.Suspect, &p.Accepted} {
		*list = append([]snapshot.Stamp{}, *list...)
		slices.Sort(*list)
	}
	p.Forgotten = append([]PushID{}, p.Forgotten...)
	data, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return 0, err
	}
	data = append(data, '\n')
	list, _, err := v.documents(ctx, policyDocument, signers)
	if err != nil {
		return 0, err
	}
	if len(list) > 0 && list[0].Seq >= state.Documents[policyDir] && bytes.Equal(list[0].Data, data) {
		state.wrote(policyDocument, list[0].Seq)
		return 0, nil
	}
	return v.putDocument(ctx, policyDocument, data, signer, state)
}

// policies returns what the policy documents of this vault ask for just now: the
// newest, and with it every one that another has replaced for less than the
// waiting time, so that a thief's document cannot unpin at once.
func (v *Vault) policies(
	ctx context.Context, signers crypt.Signers, now time.Time,
) (list []PolicyDocument, warnings []string, err error) {
	docs, faults, err := v.documents(ctx, policyDocument, signers)
	if err != nil {
		return nil, nil, err
	}
	for _, f := range faults {
		warnings = append(warnings, f.Object+": not counted: "+f.What)
	}
	for i, d := range docs {
		if i > 0 && now.Sub(docs[i-1].Arrived) > supersededGrace {
			break
		}
		p, err := parsePolicy(d.Data, v.Info.ID)
		if err != nil {
			warnings = append(warnings, fmt.Sprintf("%s: not counted: %v", d.Name, err))
			continue
		}
		list = append(list, p)
	}
	return list, warnings, nil
}

// parsePolicy reads a policy document of one vault.
func parsePolicy(data []byte, vaultID string) (p PolicyDocument, err error) {
	if err := json.Unmarshal(data, &p); err != nil {
		return p, fmt.Errorf("it is not a policy of this vault: %w", err)
	}
	if p.VaultID != vaultID {
		return p, errors.New("it is not a policy of this vault, but of another")
	}
	return p, nil
}

// PutHost writes the sealed host document. The caller writes one when its content
// has changed. The state remembers its number; the
// caller saves that.
func (v *Vault) PutHost(
	ctx context.Context, content []byte, recipients *crypt.Recipients, signer *crypt.Signer, state *State,
) (seq int64, err error) {
	var sealed bytes.Buffer
	w, err := recipients.Seal(&sealed)
	if err != nil {
		return 0, err
	}
	if _, err := w.Write(content); err != nil {
		return 0, err
	}
	if err := w.Close(); err != nil {
		return 0, err
	}
	return v.putDocument(ctx, hostDocument, sealed.Bytes(), signer, state)
}

// Host returns the newest host document, unsealed. Kind NotFound where there is
// none that a trusted signer signed.
func (v *Vault) Host(ctx context.Context, signers crypt.Signers, identities crypt.Identities) ([]byte, error) {
	list, faults, err := v.documents(ctx, hostDocument, signers)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		err := errors.New("the vault has no host document that a trusted signer signed")
		if len(faults) > 0 {
			err = errors.New(faults[0].String())
		}
		return nil, notFound(hostDir, err, "write the configuration by hand; the recovery sheet says what was where")
	}
	plain, err := identities.Open(bytes.NewReader(list[0].Data))
	if err != nil {
		return nil, err
	}
	return readLimited(plain, list[0].Name, hostDocument.limit)
}
