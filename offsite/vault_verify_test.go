package offsite_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/retention"
)

func (r *rig) verify(o offsite.VerifyOptions) offsite.Verified {
	r.t.Helper()
	if o.Signers == nil {
		o.Signers = r.signers()
	}
	result, err := r.vault.Verify(r.t.Context(), o)
	r.check(err)
	return result
}

// flip turns a bit in the middle of an object.
func (r *rig) flip(name string) {
	r.t.Helper()
	path := filepath.Join(r.root, name)
	data, err := os.ReadFile(path)
	r.check(err)
	data[len(data)/2] ^= 1
	r.check(os.Chmod(path, 0o600))
	r.check(os.WriteFile(path, data, 0o600))
}

func (r *rig) cut(name string) {
	r.t.Helper()
	path := filepath.Join(r.root, name)
	info, err := os.Stat(path)
	r.check(err)
	r.check(os.Truncate(path, info.Size()/2))
}

func (r *rig) remove(name string) { r.t.Helper(); r.check(os.Remove(filepath.Join(r.root, name))) }

func TestVerifyReadsWhatItIsTold(t *testing.T) {
	r := newRig(t)
	pushed := r.push(r.snapshot(stampOf(0), map[string][]byte{"chroma/data_level0.bin": noise(1, 40<<20)}))
	if all := r.verify(offsite.VerifyOptions{Fraction: 1}); len(all.Findings) > 0 || all.PacksRead != pushed.Packs ||
		all.Snapshots[0].Read != pushed.Packs+2 {
		t.Errorf("%+v of %d packs", all, pushed.Packs)
	}
	if none := r.verify(offsite.VerifyOptions{}); len(none.Findings) > 0 || none.PacksRead != 0 ||
		!none.Snapshots[0].Valid {
		t.Errorf("%+v", none)
	}
	if some := r.verify(offsite.VerifyOptions{Fraction: 0.4}); some.PacksRead == 0 || some.PacksRead >= pushed.Packs {
		t.Errorf("%+v of %d packs", some, pushed.Packs)
	}
	if _, err := r.vault.Verify(
		t.Context(), offsite.VerifyOptions{Signers: r.signers(), Name: "20200101T000000Z"},
	); err == nil {
		t.Error("a snapshot that is not there was verified")
	}
}

// Within a budget, what was not read for longest goes first, and everything was
// read once the runs have been round.
func TestVerifyGoesRound(t *testing.T) {
	r := newRig(t)
	pushed := r.push(r.snapshot(stampOf(0), map[string][]byte{"chroma/data_level0.bin": noise(1, 40<<20)}))
	checks, err := offsite.LoadChecks(r.stateDir, "laptop")
	r.check(err)
	begin := time.Now()
	runs := 0
	for read := 0; read < pushed.Packs; runs++ {
		result := r.verify(offsite.VerifyOptions{Fraction: 1, MaxBytes: 17 << 20, Checks: checks})
		if result.Bytes > 18<<20 || result.PacksRead == 0 || runs > pushed.Packs {
			t.Fatalf("run %d: %+v", runs, result)
		}
		read += result.PacksRead
		r.check(checks.Save())
		checks, err = offsite.LoadChecks(r.stateDir, "laptop")
		r.check(err)
	}
	if runs < 2 {
		t.Errorf("%d runs for 40 MiB", runs)
	}
	for name, read := range checks.Read {
		if strings.HasPrefix(name, "packs/") && read.At.Before(begin) {
			t.Errorf("%s was not read", name)
		}
	}
}

// Every kind of object: a bit turned, cut short, taken away. Verify names it, and
// a vault in which nothing can be checked is not well.
func TestVerifyNamesDamage(t *testing.T) {
	base := func(t *testing.T) (*rig, map[string]string) {
		r := newRig(t)
		r.push(r.snapshot(stampOf(0), map[string][]byte{"db/atocore.db": text(1, 200<<10)}))
		_, err := r.vault.PutPolicy(
			t.Context(), offsite.PolicyDocument{Retention: retention.Policy{Daily: 7}}, r.signer, r.signers(),
			&offsite.State{},
		)
		r.check(err)
		_, err = r.vault.PutHost(t.Context(), []byte("host"), r.recipients, r.signer, &offsite.State{})
		r.check(err)
		kinds := make(map[string]string)
		for _, name := range slices.Concat(
			r.objects("packs"), r.objects("snapshots"), r.objects("policy"), r.objects("host"),
			[]string{"recover.py"},
		) {
			kind := name
			for _, suffix := range []string{".manifest.age", ".json", ".SHA256SUMS", ".SHA256SUMS.sig"} {
				if strings.HasPrefix(name, "snapshots/") && strings.HasSuffix(name, suffix) {
					kind = "snapshots/*" + suffix
				}
			}
			if strings.HasPrefix(name, "packs/") {
				kind = "pack"
			}
			kinds[kind] = name
		}
		return r, kinds
	}
	_, kinds := base(t)
	harms := map[string]func(*rig, string){"flip": (*rig).flip, "cut": (*rig).cut, "remove": (*rig).remove}
	for kind := range kinds {
		for how, harm := range harms {
			if how == "remove" && strings.HasSuffix(kind, ".sig") && !strings.HasPrefix(kind, "snapshots/") {
				continue // as a document that is being written
			}
			t.Run(how+" "+kind, func(t *testing.T) {
				r, names := base(t)
				harm(r, names[kind])
				result := r.verify(offsite.VerifyOptions{Fraction: 1})
				named := slices.ContainsFunc(result.Findings, func(f offsite.Finding) bool {
					return f.Object == names[kind] ||
						strings.TrimSuffix(f.Object, ".sig") == strings.TrimSuffix(names[kind], ".sig")
				})
				if strings.HasPrefix(kind, "snapshots/") && len(result.Findings) > 0 {
					named = true // a signature that does not hold accuses two files
				}
				if !named {
					t.Errorf("%s: found %v", names[kind], result.Findings)
				}
			})
		}
	}
}

// What this machine wrote and is gone without a trace is missed too, and what it
// writes next has a number of its own.
func TestVerifyMissesDocuments(t *testing.T) {
	for _, gone := range []string{".json", ".age", ".json.sig", ".age.sig"} {
		t.Run(gone, func(t *testing.T) {
			r := newRig(t)
			r.push(r.snapshot(stampOf(0), map[string][]byte{"db/atocore.db": text(1, 20<<10)}))
			state := &offsite.State{VaultID: r.vault.Info.ID}
			put := func(daily int) {
				p := offsite.PolicyDocument{Retention: retention.Policy{Daily: daily}}
				_, err := r.vault.PutPolicy(t.Context(), p, r.signer, r.signers(), state)
				r.check(err)
				_, err = r.vault.PutHost(t.Context(), []byte("host"), r.recipients, r.signer, state)
				r.check(err)
			}
			found := func() []offsite.Finding {
				return r.verify(offsite.VerifyOptions{Fraction: 1, State: state}).Findings
			}
			put(7)
			put(8)
			if got := found(); len(got) > 0 {
				t.Fatalf("all is there: %v", got)
			}
			suffix := strings.TrimSuffix(gone, ".sig")
			dir := map[string]string{".json": "policy/", ".age": "host/"}[suffix]
			lost := dir + "000002" + suffix
			r.remove(lost + ".sig")
			if gone == suffix {
				r.remove(lost)
			}
			got := found()
			if len(got) != 1 || got[0].Object != dir+"000002"+gone || !state.WroteHost() {
				t.Errorf("found %v, want %s", got, dir+"000002"+gone)
			}
			put(8)
			if got := found(); len(got) > 0 || !slices.Contains(r.objects(strings.TrimSuffix(dir, "/")), dir+"000003"+suffix) {
				t.Errorf("after it was written again: %v", got)
			}
		})
	}
}

func TestVerifyNamesStrangers(t *testing.T) {
	r := newRig(t)
	r.push(r.snapshot(stampOf(0), map[string][]byte{"db/atocore.db": text(1, 20<<10)}))
	for _, name := range []string{"argparse.py", "packs/notes.txt", "snapshots/x.age"} {
		r.write(r.root, name, []byte("x"))
	}
	result := r.verify(offsite.VerifyOptions{Fraction: 1})
	if want := []string{"argparse.py", "packs/notes.txt", "snapshots/x.age"}; !slices.Equal(result.Strangers, want) {
		t.Errorf("strangers %q", result.Strangers)
	}
	if len(result.Findings) > 0 {
		t.Errorf("%v", result.Findings)
	}
}
