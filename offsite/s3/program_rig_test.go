//go:build rig

package s3

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/atocore/atobackupd/crypt"
	_ "github.com/atocore/atobackupd/snapshot/sqlite" // registers the driver
)

// program is the built program with a store and a target in a bucket.
type program struct {
	t        *testing.T
	dir, bin string
	identity string
	env      []string

	mu       sync.Mutex
	requests map[string]int // by method, and LIST apart
}

// TestRigProgram plays the whole life of a vault in a bucket with the built
// program: push, a day, verify, what a thief with the host's keys does, the way
// back on this machine, with stock tools, and on a new one.
func TestRigProgram(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			s := start(t, kind)
			bucket := s.bucket(t, "lock")
			p := newProgram(t, s, bucket)

			p.run(0, "backup", "--chroma")
			p.run(0, "target", "test", "bucket")
			p.count("first push", func() { p.wants(p.run(0, "sync", "--json"), `"state": "ok"`, `"base": true`) })
			p.count("nothing new", func() { p.wants(p.run(0, "sync", "--json"), `"pushed": []`) })
			p.insert(5000, 5200)
			p.run(0, "backup", "--chroma")
			day := p.count("a day", func() { p.wants(p.run(0, "sync", "--json"), `"state": "ok"`, `"base": false`) })
			if other := day["all"] - day["packs"]; other > 12 {
				t.Errorf("a day's push made %d requests besides %d for its packs; 12 are allowed", other, day["packs"])
			}
			p.count("verify", func() { p.run(0, "vault", "verify", "--target", "bucket") })
			p.count("prune", func() { p.run(0, "vault", "prune", "--target", "bucket") })
			stamp := p.newest()

			p.thief(s, bucket)
			p.run(0, "vault", "restore", "latest", "--target", "bucket", "--identity", p.identity, "--to",
				"seen-through")
			p.same("seen-through", stamp)
			out := p.run(-1, "vault", "verify", "--target", "bucket")
			if !strings.Contains(out, "deleted") && !strings.Contains(out, "hidden") {
				t.Errorf("verify does not say that somebody hid or deleted what is there:\n%s", out)
			}
			p.wants(p.run(0, "sync", "--json"), `"state": "ok"`)
			p.wants(p.run(0, "vault", "verify", "--target", "bucket"))

			p.stockTools(s, bucket, stamp)
			p.newMachine(s, bucket, stamp)
		})
	}
}

func newProgram(t *testing.T, s *server, bucket string) *program {
	p := &program{t: t, dir: t.TempDir(), requests: map[string]int{}}
	p.bin = filepath.Join(p.dir, "atobackupd")
	build := exec.Command("go", "build", "-o", p.bin, "../../cmd/atobackupd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	for _, dir := range []string{"live/config", "live/chroma", "machine"} {
		p.must(os.MkdirAll(filepath.Join(p.dir, dir), 0o755))
	}
	p.must(os.WriteFile(filepath.Join(p.dir, "live/config/registry.json"), []byte(`{"projects": ["p01"]}`), 0o644))
	p.tool("tar", "-xzf", absolute(t, "../../snapshot/chroma/testdata/whole.tar.gz"), "-C", "live/chroma",
		"--strip-components=1")
	p.insert(0, 5000)
	p.identity = filepath.Join(p.dir, "key.txt")
	recipient, err := crypt.WriteIdentity(p.identity)
	p.must(err)
	counted := s.proxy(t, func(_ http.ResponseWriter, r *http.Request) bool {
		p.note(r)
		return false
	})
	config := filepath.Join(p.dir, "machine/config.toml")
	p.must(os.WriteFile(config, fmt.Appendf(nil, `state_dir = "%[1]s/machine/state"
[atocore]
db_path = "%[1]s/live/atocore.db"
registry_path = "%[1]s/live/config/registry.json"
chroma_path = "%[1]s/live/chroma"
[backup]
dir = "%[1]s/machine/backups"
min_free = "1MiB"
[encryption]
recipients = ["%[2]s"]
[[offsite]]
name = "bucket"
type = "s3"
endpoint = "%[3]s"
bucket = "%[4]s"
lock_for = "30d"
credentials_file = "%[5]s"
`, p.dir, recipient, counted, bucket, filepath.Join(s.dir, "credentials")), 0o600))
	p.env = append(os.Environ(), "ATOBACKUPD_CONFIG="+config)
	return p
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}

func (p *program) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// note counts a request by what it costs.
func (p *program) note(r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	what := r.Method
	if r.Method == http.MethodGet && (r.URL.Query().Has("list-type") || r.URL.Query().Has("versions")) {
		what = "LIST"
	}
	p.requests[what]++
	p.requests["all"]++
	if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/packs/") && r.URL.RawQuery == "" {
		p.requests["packs"]++
	}
}

// count runs work and returns the requests that it made.
func (p *program) count(what string, work func()) map[string]int {
	p.t.Helper()
	p.mu.Lock()
	p.requests = map[string]int{}
	p.mu.Unlock()
	work()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.t.Logf("%s: %v", what, p.requests)
	return p.requests
}

// run runs the program and wants an exit status, or any for -1.
func (p *program) run(want int, args ...string) string {
	p.t.Helper()
	cmd := exec.Command(p.bin, args...)
	cmd.Dir, cmd.Env = p.dir, p.env
	out, err := cmd.CombinedOutput()
	if want >= 0 && cmd.ProcessState.ExitCode() != want {
		p.t.Fatalf("atobackupd %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (p *program) wants(out string, parts ...string) {
	p.t.Helper()
	for _, part := range parts {
		if !strings.Contains(out, part) {
			p.t.Fatalf("%q is not in\n%s", part, out)
		}
	}
}

// tool runs a stock program in the test's directory.
func (p *program) tool(name string, args ...string) string {
	p.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = p.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// insert writes memories to the live database.
func (p *program) insert(from, to int) {
	p.t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(p.dir, "live/atocore.db"))
	p.must(err)
	defer db.Close()
	tx, err := db.Begin()
	p.must(err)
	_, err = tx.Exec(`create table if not exists memories (id integer primary key, content text)`)
	p.must(err)
	for i := from; i < to; i++ {
		_, err = tx.Exec(`insert into memories values (?, ?)`, i, fmt.Sprintf("%d %x", i, i*7919))
		p.must(err)
	}
	p.must(tx.Commit())
}

func (p *program) newest() string {
	p.t.Helper()
	var doc struct {
		Backups []struct{ Stamp string }
	}
	p.must(json.Unmarshal([]byte(p.run(0, "list", "--json")), &doc))
	return doc.Backups[len(doc.Backups)-1].Stamp
}

// same compares what was restored with the snapshot on this machine.
func (p *program) same(dir, stamp string) {
	p.t.Helper()
	p.tool("diff", "-r", filepath.Join("machine/backups/snapshots", stamp), dir)
}

// thief deletes, overwrites and tries to destroy every object with the host's own
// keys.
func (p *program) thief(s *server, bucket string) {
	p.t.Helper()
	ctx := context.Background()
	var keys []minio.ObjectInfo
	all := minio.ListObjectsOptions{Recursive: true, WithVersions: true}
	for info := range s.admin.ListObjectsIter(ctx, bucket, all) {
		p.must(info.Err)
		keys = append(keys, info)
	}
	var destroyed, shortened, hidden, overwritten int
	mode, soon := minio.Compliance, time.Now().Add(time.Minute)
	for i, k := range keys {
		o := minio.RemoveObjectOptions{VersionID: k.VersionID, GovernanceBypass: true}
		if !k.IsDeleteMarker && s.admin.RemoveObject(ctx, bucket, k.Key, o) == nil {
			destroyed++
			p.t.Logf("destroyed: %s %s", k.Key, k.VersionID)
		}
		retention := minio.PutObjectRetentionOptions{
			VersionID: k.VersionID, Mode: &mode, RetainUntilDate: &soon, GovernanceBypass: true,
		}
		if s.admin.PutObjectRetention(ctx, bucket, k.Key, retention) == nil {
			shortened++
		}
		if i%2 == 0 {
			if _, err := s.admin.PutObject(ctx, bucket, k.Key, strings.NewReader("mine now"), 8,
				minio.PutObjectOptions{SendContentMd5: true}); err == nil {
				overwritten++
			}
		} else if s.admin.RemoveObject(ctx, bucket, k.Key, minio.RemoveObjectOptions{}) == nil {
			hidden++
		}
	}
	p.t.Logf("the thief: %d versions; destroyed %d, locks shortened %d, hidden %d, overwritten %d", len(keys),
		destroyed, shortened, hidden, overwritten)
	if destroyed > 0 || shortened > 0 {
		p.t.Errorf("locked versions: %d destroyed, %d locks shortened", destroyed, shortened)
	}
	if hidden == 0 || overwritten == 0 {
		p.t.Error("the thief could do nothing, so nothing is shown")
	}
}

// stockTools fetches the vault with rclone and recovers from it without this
// program.
func (p *program) stockTools(s *server, bucket, stamp string) {
	p.t.Helper()
	p.must(os.WriteFile(filepath.Join(p.dir, "rclone.conf"), fmt.Appendf(nil, `[remote]
type = s3
provider = Other
endpoint = %s
access_key_id = user
secret_access_key = secret12345
region = us-east-1
`, s.endpoint), 0o600))
	p.tool("env", "-u", "AWS_CA_BUNDLE", "rclone", "--config", "rclone.conf", "copy", "remote:"+bucket, "fetched")
	p.tool("python3", "-I", "fetched/recover.py", stamp, "--identity", p.identity, "--to", "recovered")
	p.same("recovered", stamp)
}

// newMachine has nothing but the bucket, its keys and the identity.
func (p *program) newMachine(s *server, bucket, stamp string) {
	p.t.Helper()
	p.must(os.Rename(filepath.Join(p.dir, "machine"), filepath.Join(p.dir, "gone")))
	p.must(os.MkdirAll(filepath.Join(p.dir, "machine"), 0o755))
	args := []string{"bootstrap", "--identity", p.identity, "--from", "s3+" + s.endpoint + "/" + bucket,
		"--credentials", filepath.Join(s.dir, "credentials")}
	p.t.Log(p.run(0, append(args, "--dry-run")...))
	p.t.Log(p.run(0, args...))
	p.tool("diff", "-r", filepath.Join("gone/backups/snapshots", stamp, "db"),
		filepath.Join("machine/backups/snapshots", stamp, "db"))
	p.insert(6000, 6100)
	p.run(0, "backup", "--chroma")
	next := p.count("the next day, from the new machine", func() {
		p.wants(p.run(0, "sync", "--json"), `"state": "ok"`, `"base": false`)
	})
	if next["packs"] > 3 {
		p.t.Errorf("the new machine sent %d packs: it did not continue the vault", next["packs"])
	}
}
