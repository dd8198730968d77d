package app

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/internal/forktest"
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
	"github.com/atocore/atobackupd/internal/provetest"
)

// A sync that is killed while it thins out the vault has removed what it had not yet
// noted: the next one finds nothing taken away, sends nothing, and goes on.
func TestThinningKilled(t *testing.T) {
	t.Parallel()
	h := newShipped(t, "")
	config, err := os.ReadFile(h.path("config.toml"))
	if err != nil {
		t.Fatal(err)
	}
	h.write("config.toml", strings.Replace(string(config), "[offsite.retention]\ndaily = 0",
		"[offsite.retention]\nkeep_within = \"0s\"\ndaily = 1", 1))
	run := func(script string) {
		t.Helper()
		cmd := exec.Command("sh", "-ec", script)
		cmd.Dir = h.dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", script, err, out)
		}
	}
	run("mkdir before; cp -a vault state before")
	kills := 0
	for k := 1; ; k++ {
		cmd := forktest.Command("sync", h.dir, fsxtest.KillEnv(k))
		out, err := cmd.CombinedOutput()
		killed := cmd.ProcessState.ExitCode() == -1
		if err != nil && !killed {
			t.Fatalf("kill %d: %v: %s", k, err, out)
		}
		a := h.open()
		docs, err := a.Sync(t.Context(), "", false)
		if err != nil || len(docs[0].Pushed) > 0 || len(docs[0].Mended) > 0 || len(docs[0].Warnings) > 0 {
			t.Errorf("kill %d: %v: %+v", k, err, docs)
		}
		v, err := a.OpenVaultTarget(t.Context(), a.Config.Offsite[0], nil)
		if err != nil {
			t.Fatal(err)
		}
		list, _, err := v.ListVerified(t.Context(), v.Signers)
		if err != nil || len(list) != 1 || list[0].Stamp != h.stamps[2] {
			t.Errorf("kill %d: the vault holds %+v, %v", k, list, err)
		}
		if err := v.Close(); err != nil {
			t.Error(err)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		if !killed {
			break
		}
		run("rm -rf vault state; cp -a before/vault before/state .")
		kills++
	}
	provetest.Points(t, kills)
	if kills < 8 {
		t.Errorf("killed at %d steps only", kills)
	}
}
