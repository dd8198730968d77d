//go:build rig

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/internal/provetest"
)

// deployment is AtoCore as it is deployed: a real Docker, its compose file, and a store
// that is all of it uid 1000's.
type deployment struct {
	t      *testing.T
	dir    string
	points int
}

// endShims ends containers that a dockerd which was killed has forgotten.
const endShims = `for shim in $(pgrep -f "^[^ ]*containerd-shim.* -address $2/"); do
	pkill -KILL -P $shim; kill -KILL $shim; done
	awk -v dir="$2/" 'index($2, dir) == 1 { print $2 }' /proc/mounts | sort -r | xargs -r umount -l; `

// newDeployment starts one, on a port of this machine.
func newDeployment(t *testing.T, binary, port string) *deployment {
	t.Helper()
	kit := filepath.Join(os.Getenv("ATOBACKUPD_SHARED"), "atocore")
	dir := os.Getenv("ATOBACKUPD_DEPLOYMENT") // of an earlier run, whose images are ready
	remove := `rm -rf "$2"`
	if dir == "" {
		var err error
		dir, err = os.MkdirTemp("/var/tmp", "atobackupd-docker-")
		must(t, err)
	} else {
		output(t, dir, "sh", "-c",
			"rm -rf etc state home store/backups/*; find store -name '.atobackupd-restore*' -prune -exec rm -r {} +")
		remove = "true"
	}
	must(t, os.Chmod(dir, 0o755))
	d := &deployment{t: t, dir: dir}
	t.Cleanup(func() {
		provetest.Points(t, d.points)
		out, err := exec.Command("bash", "-c", `"$1/down.sh" "$2"; `+endShims+remove, "down", kit, dir).CombinedOutput()
		if err != nil {
			t.Errorf("down.sh: %v: %s", err, out)
		}
	})
	up := exec.Command(filepath.Join(kit, "up.sh"), dir)
	up.Env = append(os.Environ(), "PORT="+port)
	if out, err := up.CombinedOutput(); err != nil {
		t.Fatalf("up.sh: %v: %s", err, out)
	}
	must(t, os.MkdirAll(filepath.Join(dir, "home"), 0o700))
	t.Setenv("BINARY", binary)
	t.Setenv("COMPOSE", filepath.Join(dir, "store/app/deploy/dalidou/docker-compose.yml"))
	// Its place is below the store, and it names every path by itself.
	d.ok(`mkdir -p store/app/deploy/dalidou; docker compose config >compose.whole
		docker compose down; mv compose.whole $COMPOSE; docker compose -f $COMPOSE up -d
		for i in $(seq 100); do curl -fsS http://127.0.0.1:` + port + `/health && break; sleep 0.3; done`)
	return d
}

// run is shell beside the deployment, as root; `a` is the program.
func (d *deployment) run(script string) (out string, status int) {
	d.t.Helper()
	d.points++
	const program = `set -e; . ./env; a() { "$BINARY" --config "$PWD/etc/config.toml" "$@"; }; `
	cmd := exec.Command("bash", "-c", program+script)
	cmd.Dir = d.dir
	cmd.Env = append(os.Environ(), "HOME="+filepath.Join(d.dir, "home"))
	text, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		d.t.Fatal(err)
	}
	return string(text), cmd.ProcessState.ExitCode()
}

func (d *deployment) ok(script string, forms ...string) string {
	d.t.Helper()
	return d.ends(0, script, forms...)
}

// ends runs script and wants an exit status and forms of what it said.
func (d *deployment) ends(want int, script string, forms ...string) string {
	d.t.Helper()
	out, status := d.run(script)
	if status != want {
		d.t.Fatalf("%s: exit %d, want %d:\n%s", script, status, want, out)
	}
	for _, form := range forms {
		if !regexp.MustCompile(form).MatchString(out) {
			d.t.Errorf("%s: no %q in\n%s", script, form, out)
		}
	}
	return out
}

// TestDeployment has init find AtoCore as it is deployed, and does what init says is
// left to do: what it has written works at once, down to a restore and a live drill that
// stop and start the real containers.
func TestDeployment(t *testing.T) {
	d := newDeployment(t, buildProgram(t), "8100")
	store := filepath.Join(d.dir, "store")
	init := "a init --yes --json --db " + store + "/data/db/atocore.db --state-dir $PWD/state 2>/dev/null"
	var report struct{ Next []string }
	must(t, json.Unmarshal([]byte(d.ok(init)), &report))
	d.ok("a config show", `db_path = "`+store+`/data/db/atocore.db"`,
		`registry_path = "`+store+`/config/project-registry.json"`, `chroma_path = "`+store+`/data/chroma"`,
		`dir = "`+store+`/backups"`, `health_url = "http://127.0.0.1:8100/health"`,
		`stop_command = \["docker", "compose", "-f", "`+store+`/app/deploy/dalidou/docker-compose.yml", "down"\]`)
	d.ends(4, "a backup", "belongs to uid 1000")
	for _, step := range report.Next {
		if _, command, found := strings.Cut(step, "another user can change the backups: "); found {
			d.ok(command)
		}
	}
	d.ok("a config check", "is good")
	d.ok("a backup --chroma", "manual, full .* valid")
	d.ok("a drill", "passed")
	d.ends(4, "a restore latest --dry-run", `database is open in pid \d+ \(python, container`, "the service answers at",
		`chroma is open in pid \d+ \(node, container`)
	d.ok("a restore latest --manage-service", "database yes, registry yes, chroma yes",
		"to go back: atobackupd restore")
	d.ok("curl -fsS http://127.0.0.1:8100/stats", `"memories": [1-9]`)
	d.ok("a drill --live", "live drill with .* passed")
	d.ends(1, "a status", "never started", `live-drill +ok +0m ago`)
}
