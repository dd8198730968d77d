package offsite_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/offsite/dir"
	"github.com/atocore/atobackupd/offsite/sftp"
	"github.com/atocore/atobackupd/offsite/sftp/sshdtest"
)

// The host may only add; the machine that holds the vault prunes it.
func TestAppendOnlyVault(t *testing.T) {
	r := bareRig(t)
	server := sshdtest.Start(t, sshdtest.Options{User: "backup", AppendOnly: true})
	r.root = filepath.Join(server.Dir, "vault")
	r.check(os.Mkdir(r.root, 0o755))
	server.MakeVault(r.root)
	remote, err := sftp.Dial(context.Background(), sftp.Config{
		Name: "laptop", Hosts: []string{server.Host}, Port: server.Port, User: server.User, AppendOnly: true,
		IdentityFile: server.IdentityFile, KnownHosts: server.KnownHosts, Path: r.root,
	})
	r.check(err)
	r.open(remote)
	s := newStore(20)
	first := r.take(s, recent(3), true)
	r.push(first)
	s.day()
	second := r.take(s, recent(1), true)
	if pushed := r.push(second); pushed.Base || len(pushed.Damage) > 0 {
		t.Errorf("%+v", pushed)
	}
	r.wantPull(second)
	before := r.objects("snapshots")
	if _, err := r.vault.Prune(
		context.Background(), time.Now(), offsite.PruneOptions{Policy: keepOne, Signers: r.signers()},
	); err == nil {
		t.Error("the host could prune")
	}
	if after := r.objects("snapshots"); len(after) != len(before) {
		t.Errorf("%q, then %q", before, after)
	}

	local, err := dir.Open(r.root, tree.Trusted(""))
	r.check(err)
	defer local.Close()
	laptop, err := offsite.OpenVault(context.Background(), local)
	r.check(err)
	r.vault = laptop
	if pruned := r.prune(time.Now(), keepOne); len(pruned.Deleted) != 1 {
		t.Errorf("%+v", pruned)
	}
	r.wantPull(second)
	r.wantRecover(second)
}
