//go:build rig

package offsite_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/offsite/dir"
	"github.com/atocore/atobackupd/offsite/sftp"
	"github.com/atocore/atobackupd/offsite/sftp/sshdtest"
	"github.com/atocore/atobackupd/retention"
)

// robbed is a vault behind a real append-only sshd, laid as docs/laptop.md says, with
// the host's last days in it, and a thief who has all that the host had: the ssh
// key, the signing key and the recipients.
type robbed struct {
	*rig                    // the thief's: what it pushes goes over ssh
	server *sshdtest.Server // of the second machine
	laptop *offsite.Vault   // the vault as that machine sees it
	good   []offsite.Source // what the host had sent, oldest first
	pushes []offsite.PushID // of each
	policy retention.Policy // the second machine's
}

const goodDays = 6

func newRobbed(t *testing.T) *robbed {
	t.Helper()
	host := bareRig(t)
	v := &robbed{
		rig: host, server: sshdtest.Start(t, sshdtest.Options{User: "backup", AppendOnly: true}),
		policy: retention.Policy{Daily: 5, MaxDeleteFraction: 0.5},
	}
	host.root = filepath.Join(v.server.Dir, "vault")
	host.check(os.Mkdir(host.root, 0o700))
	local, err := dir.Open(host.root, tree.Trusted(""))
	host.check(err)
	t.Cleanup(func() { local.Close() })
	v.laptop, err = offsite.InitDir(t.Context(), local, host.create())
	host.check(err)
	v.chown()
	remote, err := sftp.Dial(t.Context(), sftp.Config{
		Name: "laptop", Hosts: []string{v.server.Host}, Port: v.server.Port, User: v.server.User, AppendOnly: true,
		IdentityFile: v.server.IdentityFile, KnownHosts: v.server.KnownHosts, Path: host.root,
	})
	host.check(err)
	host.open(remote)
	for i := goodDays; i > 0; i-- {
		src := host.lonely(i)
		v.good, v.pushes = append(v.good, src), append(v.pushes, host.push(src).Push)
	}
	return v
}

// chown makes the vault the account's, which runs `vault init` and the timers there.
func (v *robbed) chown() {
	v.t.Helper()
	account, err := user.Lookup(v.server.User)
	v.check(err)
	uid, _ := strconv.Atoi(account.Uid)
	gid, _ := strconv.Atoi(account.Gid)
	v.check(filepath.WalkDir(v.root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, gid)
	}))
}

// prune is the second machine's timer, some days later.
func (v *robbed) prune(after time.Duration) (offsite.Pruned, error) {
	return v.laptop.Prune(v.t.Context(), time.Now().Add(after),
		offsite.PruneOptions{Policy: v.policy, Signers: v.signers(), SecondMachine: true})
}

// wantKept fails unless the named good pushes still restore, byte for byte, by
// stamp or by push.
func (v *robbed) wantKept(days ...int) {
	v.t.Helper()
	for _, i := range days {
		stored, _, err := v.laptop.Find(v.t.Context(), string(v.pushes[i]), v.signers())
		v.check(err)
		dest := filepath.Join(v.t.TempDir(), "restored")
		o := offsite.PullOptions{Identities: v.identities, Signers: v.signers()}
		v.check(v.laptop.Pull(v.t.Context(), stored, dest, o))
		sameTree(v.t, v.good[i].Dir, dest)
	}
}

// batch asks OpenSSH's sftp to do one thing with the host's key.
func (v *robbed) batch(command string) (string, error) {
	cmd := exec.Command("sftp", "-b", "-", "-o", "UserKnownHostsFile="+v.server.KnownHosts, "-o", "IdentitiesOnly=yes",
		"-i", v.server.IdentityFile, "-P", fmt.Sprint(v.server.Port), v.server.User+"@"+v.server.Host)
	cmd.Stdin = strings.NewReader("cd vault\n" + command + "\n")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// all are the good pushes that the second machine's policy of five days keeps.
var all = []int{1, 2, 3, 4, 5}

// TestRigThiefOverSSH tries what a thief with all of the host's keys can do to an
// append-only vault, and what becomes of it there. docs/threat-model.md names its
// rows.
func TestRigThiefOverSSH(t *testing.T) {
	for _, row := range []struct {
		name string
		do   func(t *testing.T, v *robbed)
	}{
		{"nothing that is there can be changed", thiefChanges},
		{"nor in a vault that an earlier version laid", func(t *testing.T, v *robbed) {
			for _, name := range []string{"recover.py", "README.txt", "vault.json"} {
				v.check(os.Chmod(filepath.Join(v.root, name), 0o600))
			}
			_, err := v.prune(0)
			v.check(err)
			thiefChanges(t, v)
		}},
		{"pushes with forged old stamps", thiefPushesOldStamps},
		{"pushes of the same stamps", thiefSupersedes},
		{"pushes of the same stamps with other content", thiefSupersedesFew},
		{"pushes with a signature that does not verify", thiefPushesUnsigned},
		{"a policy that shortens", thiefShortens},
		{"a policy that forgets", thiefForgets},
		{"strangers in the vault", thiefPlantsStrangers},
		{"a stamp from the future", thiefPushesTheFuture},
		{"uploads that never end", thiefFills},
	} {
		t.Run(row.name, func(t *testing.T) { row.do(t, newRobbed(t)) })
	}
}

func thiefChanges(t *testing.T, v *robbed) {
	own := filepath.Join(t.TempDir(), "own")
	v.check(os.WriteFile(own, []byte("import os\n"), 0o600))
	before := fsxtest.State(t, v.root)
	pack, sig := "packs/"+string(v.pushes[1])+"-000000.age", "snapshots/"+string(v.pushes[1])+".SHA256SUMS.sig"
	for _, name := range []string{"recover.py", "README.txt", "vault.json", pack, sig} {
		for _, command := range []string{
			"put " + own + " " + name, "rm " + name, "rename " + name + " gone", "rename " + pack + " " + name,
			"ln " + pack + " " + name, "ln -s " + pack + " " + name, "chmod 777 " + name, "chown 0 " + name,
			"reput " + own + " " + name,
		} {
			if out, err := v.batch(command); err == nil {
				t.Errorf("%s: it was done: %s", command, out)
			}
		}
	}
	for _, command := range []string{"rmdir incoming", "rename packs p", "chmod 777 packs", "mkdir packs/x",
		"ln -s / root"} {
		if out, err := v.batch(command); err == nil {
			t.Errorf("%s: it was done: %s", command, out)
		}
	}
	if after := fsxtest.State(t, v.root); after != before {
		t.Errorf("the vault was\n%s\nand is\n%s", before, after)
	}
	if err := v.remote.Remove(t.Context(), pack); err == nil {
		t.Error("the program removed a pack")
	}
	v.wantKept(all...)
	v.rig.wantRecover(v.good[goodDays-1])
}

func thiefPushesOldStamps(t *testing.T, v *robbed) {
	for days := 20; days <= 60; days += 5 {
		v.push(v.lonely(days))
	}
	for _, after := range []time.Duration{0, 8 * day, 30 * day} {
		pruned, err := v.prune(after)
		v.check(err)
		late := slices.DeleteFunc(slices.Clone(pruned.Warnings), func(w string) bool {
			return !strings.Contains(w, "not counted: it arrived")
		})
		if len(late) != 9 {
			t.Errorf("after %v: %q", after, pruned.Warnings)
		}
	}
	v.wantKept(all...)
}

func thiefSupersedes(t *testing.T, v *robbed) {
	for _, src := range v.good {
		v.push(src)
	}
	pruned, err := v.prune(0) // the oldest of six goes, by the policy
	v.check(err)
	for _, s := range pruned.Superseded {
		if s.Due {
			t.Errorf("%s goes at once", s.Push)
		}
	}
	v.wantKept(all...)
	for _, after := range []time.Duration{13 * day, 15 * day, 100 * day} {
		pruned, err := v.prune(after)
		if after > 14*day && (err == nil || !pruned.Decision.Held) {
			t.Errorf("after %v nobody is asked: %v, %+v", after, err, pruned.Superseded)
		}
	}
	v.wantKept(all...)
}

func thiefSupersedesFew(t *testing.T, v *robbed) {
	src := v.good[goodDays-1]
	poisoned := *v.rig
	poisoned.snapshots = t.TempDir()
	v.push(poisoned.snapshot(src.Info.Stamp, map[string][]byte{"db/1": []byte("what the thief wants restored")}))
	survey, err := v.laptop.Survey(t.Context(), v.signers())
	v.check(err)
	if len(survey.Superseded) != 1 || survey.Superseded[0].Push != v.pushes[goodDays-1] {
		t.Errorf("the push that was replaced is not listed: %+v", survey.Superseded)
	}
	_, err = v.prune(13 * day)
	v.check(err)
	v.wantKept(all...)
	dest := filepath.Join(t.TempDir(), "restored")
	out, err := exec.Command(python(t), "-I", filepath.Join(v.root, "recover.py"), string(v.pushes[goodDays-1]),
		"--identity", v.rig.identity, "--to", dest, "--signer", v.signer.AuthorizedKey()).CombinedOutput()
	if err != nil {
		t.Fatalf("recover.py with a push: %v\n%s", err, out)
	}
	sameTree(t, src.Dir, dest)
}

func thiefPushesUnsigned(t *testing.T, v *robbed) {
	put := func(name, data string) {
		_, err := v.remote.Put(t.Context(), name, strings.NewReader(data))
		v.check(err)
	}
	old, future, junk := string(recent(3))+"-000001", string(recent(-2))+"-000002", string(recent(4))+"-000003"
	for _, push := range []string{old, future} {
		put("snapshots/"+push+".SHA256SUMS", strings.Repeat("0", 64)+"  packs/"+string(v.pushes[0])+"-000000.age\n")
		put("snapshots/"+push+".SHA256SUMS.sig", "-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n")
	}
	put("snapshots/"+junk+".SHA256SUMS", strings.Repeat("junk\n", 550_000))
	put("snapshots/"+junk+".SHA256SUMS.sig", "junk")
	pruned, err := v.prune(0)
	v.check(err) // they stop nothing
	for _, push := range []string{old, future, junk} {
		if !strings.Contains(strings.Join(pruned.Warnings, "\n"), push) {
			t.Errorf("%s is not named: %q", push, pruned.Warnings)
		}
	}
	if len(pruned.Deleted) != 1 {
		t.Errorf("the prune deleted %v", pruned.Deleted)
	}
	_, err = v.prune(8 * day)
	v.check(err)
	left := strings.Join(v.objects("snapshots"), "\n")
	if strings.Contains(left, old) || !strings.Contains(left, future) {
		t.Errorf("after a week, of %s and %s there are\n%s", old, future, left)
	}
	v.wantKept(all...)
}

func thiefShortens(t *testing.T, v *robbed) {
	for _, r := range []retention.Policy{{Daily: 1, MaxDeleteFraction: 1}, {Monthly: 1, MaxDeleteFraction: 1}} {
		_, err := v.vault.PutPolicy(t.Context(), offsite.PolicyDocument{Retention: r}, v.signer, v.signers(), &offsite.State{})
		v.check(err)
	}
	for _, after := range []time.Duration{0, 8 * day, 30 * day} {
		_, err := v.prune(after)
		v.check(err)
	}
	v.wantKept(all...)
}

func thiefForgets(t *testing.T, v *robbed) {
	p := offsite.PolicyDocument{Retention: v.policy, Forgotten: v.pushes}
	_, err := v.vault.PutPolicy(t.Context(), p, v.signer, v.signers(), &offsite.State{})
	v.check(err)
	if _, err := v.vault.Forget(t.Context(), string(v.pushes[3]), v.signers()); err == nil {
		t.Error("the host's account forgot a push")
	}
	for _, after := range []time.Duration{0, 8 * day, 30 * day} {
		_, err := v.prune(after)
		v.check(err)
	}
	v.wantKept(all...)
}

func thiefPlantsStrangers(t *testing.T, v *robbed) {
	own := filepath.Join(t.TempDir(), "own")
	proof := filepath.Join(t.TempDir(), "stolen")
	v.check(os.WriteFile(own, fmt.Appendf(nil, "open(%q, 'w').write('the identity')\n", proof), 0o644))
	planted := []string{"argparse.py", "json.py", "recover-00000000.py", "packs/argparse.py", "snapshots/x.py"}
	for _, name := range planted {
		if out, err := v.batch("put " + own + " " + name); err != nil {
			t.Fatalf("put %s: %s", name, out)
		}
	}
	report, err := v.laptop.Verify(t.Context(), offsite.VerifyOptions{Signers: v.signers()})
	v.check(err)
	for _, name := range planted {
		named := slices.Contains(report.Strangers, name) ||
			slices.ContainsFunc(report.Findings, func(f offsite.Finding) bool { return f.Object == name })
		if !named {
			t.Errorf("%s is not named: %q, %+v", name, report.Strangers, report.Findings)
		}
	}
	_, err = v.prune(0)
	v.check(err)
	for _, isolated := range [][]string{{}, {"-I"}} {
		dest := filepath.Join(t.TempDir(), "restored")
		args := append(isolated, filepath.Join(v.root, "recover.py"), "latest", "--identity", v.rig.identity,
			"--to", dest)
		out, err := exec.Command(python(t), args...).CombinedOutput()
		if err != nil {
			t.Errorf("recover.py: %v\n%s", err, out)
		}
	}
	if _, err := os.Stat(proof); err == nil {
		t.Error("recover.py ran the thief's module")
	}
	v.wantKept(all...)
}

func thiefPushesTheFuture(t *testing.T, v *robbed) {
	for days := 1; days <= 8; days++ {
		v.push(v.lonely(-300 * days))
	}
	for _, after := range []time.Duration{0, 8 * day, 30 * day} {
		_, err := v.prune(after)
		v.check(err)
	}
	stored, _, err := v.laptop.Find(t.Context(), "latest", v.signers())
	v.check(err)
	if stored.Stamp != v.good[goodDays-1].Info.Stamp {
		t.Errorf("latest is %s", stored.Stamp)
	}
	v.wantKept(all...)
}

func thiefFills(t *testing.T, v *robbed) {
	own := filepath.Join(t.TempDir(), "own")
	v.check(os.WriteFile(own, make([]byte, 4<<20), 0o600))
	for i := range 5 {
		if out, err := v.batch(fmt.Sprintf("put %s incoming/junk%d", own, i)); err != nil {
			t.Fatal(out)
		}
	}
	_, err := v.prune(3 * day)
	v.check(err)
	for _, name := range v.objects("incoming") {
		if strings.Contains(name, "junk") {
			t.Errorf("%s is still there", name)
		}
	}
	v.wantKept(all...)
}
