package setup

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/snapshot/chroma"
)

// What a method of copying Chroma needs is looked for before the first night.
func TestCheckChromaMethod(t *testing.T) {
	dir := atocore(t)
	if out, err := exec.Command("tar", "-xzf", "../../snapshot/chroma/testdata/whole.tar.gz", "-C",
		dir).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}
	path := filepath.Join(dir, "config.toml")
	put(t, path, fmt.Sprintf("state_dir = %[1]q\n[atocore]\ndb_path = %[2]q\nchroma_path = %[3]q\n[backup]\ndir = "+
		"%[4]q\nmin_free = \"1MiB\"\n",
		filepath.Join(dir, "state"), filepath.Join(dir, "srv/data/db/atocore.db"), filepath.Join(dir,
			"whole"), filepath.Join(dir, "backups")))
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	check := func(method string, thaw ...string) string {
		t.Helper()
		b := &cfg.Backup
		b.ChromaMethod, b.FreezeCommand, b.ThawCommand = chroma.Method(method), []string{"true"}, thaw
		if _, err := CheckConfig(t.Context(), cfg, time.Now()); err != nil {
			return err.Error()
		}
		return ""
	}
	for method, want := range map[string]string{"live": "", "btrfs": "no btrfs subvolume holds it",
		"freeze": "backup.thaw_command: exec: \"no-such-program\""} {
		if got := check(method, "no-such-program"); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q", method, got)
		}
	}
	if got := check("freeze", "true"); got != "" {
		t.Errorf("freeze with its commands: %s", got)
	}
}
