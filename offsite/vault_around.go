package offsite

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
)

// knownRecoverScripts are the SHA-256 of the recover.py of every version of this
// program, the one of today included: a vault is not its own witness.
var knownRecoverScripts = []string{
	"6eed1333cd06cbc3fe7c32662568ed31b0588d4307d1808f9d222842078ea3f6",
	"a4c6d4837d6efe85ea9f61ff3a388396e21c0757b01bc9b376aefe8738747d7c", // 0.1.0
}

// knownReadmes are the SHA-256 of the README.txt of earlier versions.
var knownReadmes = []string{
	"4460e8efcc4c5e90bf4a047ae5f11e76354be8be243b5e99528f1ea3d8f25ea8",
	"53f5167716b8a3bc8147e30e47f92380eaee2c1eedbcb9f6a5a60824a9f5111b", // 0.1.0
}

// namedScript matches the name of a recover.py in README.txt.
var namedScript = regexp.MustCompile(`recover-[0-9a-f]{8}\.py`)

// recoverPattern matches the name of a recover.py that a later version of the
// program put beside the first one: the first 8 digits of its SHA-256.
var recoverPattern = regexp.MustCompile(`^recover-([0-9a-f]{8})\.py$`)

// RecoverScriptName is the name under which this program's recover.py lies in a
// vault that was begun by another version.
func RecoverScriptName() string { return "recover-" + RecoverScriptSHA256()[:8] + ".py" }

// IsRecoverScript reports whether a name is that of a recover.py in a vault.
func IsRecoverScript(name string) bool {
	return name == recoverFile || recoverPattern.MatchString(name)
}

// around looks at what lies beside the pushes: the script that brings them back,
// the signed documents, uploads that lack their signature, and strangers.
func (w *verifier) around(ctx context.Context) error {
	entries, err := w.vault.list(ctx, ".")
	if err != nil {
		return err
	}
	if err := w.scripts(ctx, entries); err != nil {
		return err
	}
	w.named()
	w.strange(".", entries, func(e Entry) bool {
		return e.Dir && (slices.Contains(directories, e.Name) || e.Name == "lost+found") ||
			e.IsFile() && (e.Name == vaultFile || e.Name == readmeFile || IsRecoverScript(e.Name))
	})
	if w.o.Name == "" {
		if err := w.documents(ctx); err != nil {
			return err
		}
	}
	for _, u := range w.survey.Unproven {
		if w.o.Name == "" || w.o.Name == string(u.Stamp) || w.o.Name == string(u.Push) {
			w.unproven(u)
		}
	}
	if w.o.State != nil {
		w.extra = append(w.extra, w.survey.lostPushes(w.o.State)...)
	}
	if w.o.Name == "" {
		w.extra = append(w.extra, w.survey.tampering(w.vault)...)
	}
	return w.unsigned(ctx)
}

// named judges vault.json: what it names must be what this machine is pinned to.
func (w *verifier) named() {
	fault, info, state := w.vault.fault, w.vault.Info, w.o.State
	switch {
	case fault != "":
	case state != nil && info.ID != state.VaultID:
		fault = fmt.Sprintf("it names vault %s, and %s was expected", info.ID, state.VaultID)
	case state != nil && !slices.Contains(w.o.Signers, info.Signer):
		fault = "it names a signer that this machine does not know: " + info.Signer
	}
	if fault != "" {
		w.extra = append(w.extra, Finding{Object: vaultFile, What: fault})
	} else {
		w.clean(vaultFile, 0)
	}
}

// unproven notes a push that does not hold. Where a sound push of its stamp is
// there, nothing is lost by it.
func (w *verifier) unproven(u Unproven) {
	for _, p := range w.survey.Current {
		if p.Stamp == u.Stamp {
			w.survey.Warnings = append(
				w.survey.Warnings, fmt.Sprintf("%s: a sound push of its stamp is there, %s", u.Push, p.Push),
			)
			return
		}
	}
	stamp, _ := u.Push.Stamp()
	object := w.survey.damagedObject(u.Push, u.Err)
	w.bad[object] = reason(u.Err)
	w.pushes = append(w.pushes, Stored{Push: u.Push, Info: Info{Stamp: stamp}})
	w.survey.needs[u.Push] = sums{object: ""}
	if w.o.State == nil { // else lostPushes says so
		w.extra = append(
			w.extra,
			Finding{Object: object, What: reason(u.Err), Stamps: stamps([]Stored{{Info: Info{Stamp: stamp}}})},
		)
	}
}

// unsigned looks once more at pushes that lacked nothing but a signature: one
// that was being made when this began has it by now.
func (w *verifier) unsigned(ctx context.Context) error {
	if len(w.survey.Unsigned) == 0 || w.o.Name != "" {
		return nil
	}
	entries, err := w.vault.list(ctx, snapshotsDir)
	if err != nil {
		return err
	}
	objects := make(map[string]Entry)
	for _, e := range entries {
		if e.IsFile() { // a directory of that name is no signature
			objects[snapshotsDir+"/"+e.Name] = e
		}
	}
	still := unsigned(objects)
	for _, push := range w.survey.Unsigned {
		stamp, _ := push.Stamp()
		current := slices.ContainsFunc(w.survey.Current, func(p Stored) bool { return p.Stamp == stamp })
		known := w.o.State != nil // then lostPushes judges
		if slices.Contains(still, push) && !current && !known {
			w.extra = append(
				w.extra,
				Finding{
					Object: push.object(sigSuffix), What: "it is missing",
					Stamps: stamps([]Stored{{Info: Info{Stamp: stamp}}}),
				},
			)
		}
	}
	return nil
}

// scripts compares each recover.py with the digests that this program knows.
func (w *verifier) scripts(ctx context.Context, entries []Entry) error {
	found := false
	for _, e := range entries {
		if !e.IsFile() || !IsRecoverScript(e.Name) {
			continue
		}
		found = true
		data, err := readAll(ctx, w.vault.remote, e.Name, maxInfo)
		if err != nil && !isDamage(err) {
			return err
		}
		if what := scriptFault(e.Name, data, err); what != "" {
			w.extra = append(w.extra, Finding{Object: e.Name, What: what})
		} else {
			w.clean(e.Name, e.Size)
		}
	}
	if !found {
		w.extra = append(w.extra, Finding{Object: recoverFile, What: "it is missing"})
	}
	return w.readme(ctx, entries)
}

// readme compares README.txt with those of the versions that this program knows.
func (w *verifier) readme(ctx context.Context, entries []Entry) error {
	i := slices.IndexFunc(entries, func(e Entry) bool { return e.IsFile() && e.Name == readmeFile })
	if i < 0 {
		w.extra = append(w.extra, Finding{Object: readmeFile, What: "it is missing"})
		return nil
	}
	data, err := readAll(ctx, w.vault.remote, readmeFile, maxInfo)
	if err != nil && !isDamage(err) {
		return err
	}
	sum := sha256.Sum256(namedScript.ReplaceAll(data, []byte(recoverFile)))
	digest := hex.EncodeToString(sum[:])
	current := sha256.Sum256(vaultReadme)
	switch {
	case err != nil:
		w.extra = append(w.extra, Finding{Object: readmeFile, What: reason(err)})
	case digest != hex.EncodeToString(current[:]) && !slices.Contains(knownReadmes, digest):
		w.extra = append(w.extra, Finding{Object: readmeFile, What: "it is not the text of any version of atobackupd"})
	default:
		w.clean(readmeFile, entries[i].Size)
	}
	return nil
}

// scriptFault returns what is wrong with a recover.py, or "".
func scriptFault(name string, data []byte, err error) string {
	if err != nil {
		return reason(err)
	}
	sum := sha256.Sum256(data)
	digest := hex.EncodeToString(sum[:])
	if digest == RecoverScriptSHA256() || slices.Contains(knownRecoverScripts, digest) {
		return ""
	}
	if m := recoverPattern.FindStringSubmatch(name); m != nil && strings.HasPrefix(digest, m[1]) {
		// A later version of the program made it, or somebody who chose its name:
		// only the recovery sheet can tell.
		return "its SHA-256 " + digest + " is of no version that this program knows: compare it with the recovery sheet"
	}
	return "its SHA-256 " + digest + " is not that of any recover.py of atobackupd: do not run it"
}

// strange notes the entries of a directory that are no part of a vault.
func (w *verifier) strange(dir string, entries []Entry, belongs func(Entry) bool) {
	for _, e := range entries {
		if belongs(e) {
			continue
		}
		name := e.Name
		if dir != "." {
			name = dir + "/" + e.Name
		}
		w.strangers = append(w.strangers, name)
	}
}

// documents checks the signed documents beside the pushes, and the names in
// every directory.
func (w *verifier) documents(ctx context.Context) error {
	for _, kind := range []document{policyDocument, hostDocument} {
		entries, err := w.vault.list(ctx, kind.dir)
		if err != nil {
			return err
		}
		w.strange(kind.dir, entries, func(e Entry) bool { return e.IsFile() && kind.belongs(e.Name) })
		docs, faults, err := w.vault.documents(ctx, kind, w.o.Signers)
		if err != nil {
			return err
		}
		for _, f := range faults {
			if len(docs) > 0 && f.Object < docs[0].Name {
				w.survey.Warnings = append(w.survey.Warnings, f.String()+"; a later one has replaced it")
				continue
			}
			w.extra = append(w.extra, f)
		}
		if w.o.State == nil {
			continue
		}
		if lost, ok := w.o.State.lostDocument(kind, entries, docs, faults); ok {
			w.extra = append(w.extra, lost)
			continue
		}
		if len(docs) == 0 && len(faults) == 0 && len(entries) > 0 {
			object, what := kind.dir+"/", "none of the documents there is signed"
			for _, e := range entries {
				if _, sig, ok := kind.parse(e.Name); ok && !sig && e.IsFile() {
					object, what = kind.dir+"/"+e.Name+".sig", "it is missing"
				}
			}
			w.extra = append(w.extra, Finding{Object: object, What: what})
		}
	}
	belongs := map[string]func(Entry) bool{
		packsDir: func(e Entry) bool {
			id, ok := packID(packsDir + "/" + e.Name)
			return ok && e.IsFile() && packPattern.MatchString(id)
		},
		snapshotsDir: func(e Entry) bool {
			for _, suffix := range []string{manifestSuffix, sigSuffix, sumsSuffix, infoSuffix} {
				if name, ok := strings.CutSuffix(e.Name, suffix); ok && e.IsFile() {
					_, isPush := PushID(name).Stamp()
					return isPush
				}
			}
			return false
		},
	}
	for _, dir := range []string{packsDir, snapshotsDir} {
		entries, err := w.vault.remote.List(ctx, dir)
		if w.neverFilled() && (err == nil || errors.Is(err, fs.ErrNotExist)) {
			w.clean(dir, 0) // the first push makes it
			err = nil
		}
		if errors.Is(err, fs.ErrNotExist) {
			w.extra = append(w.extra, Finding{Object: dir, What: "it is missing"})
			continue
		}
		if err != nil {
			return err
		}
		w.strange(dir, entries, belongs[dir])
	}
	return nil
}
