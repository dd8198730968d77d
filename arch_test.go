package atobackupd_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/atocore/atobackupd"

// pkg is what `go list -json` tells of a package.
type pkg struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-tags", "rig,man", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	var list []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		p.ImportPath = strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		list = append(list, p)
	}
	if len(list) < 15 {
		t.Fatalf("go list found only %d packages", len(list))
	}
	return list
}

// under reports whether path is dir or lies below it.
func under(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// layers lists, for each package, what of ours it may import besides what lies
// below itself. Arrows point one way: commands, then the daemon, then the parts,
// then the ground. A package that is not listed fails the test, so that its place
// is decided when it is made.
var ground = []string{"internal/fsx", "internal/failure", "internal/escape"}

var layers = map[string][]string{
	"": {},
	"cmd/atobackupd": {"internal/app", "internal/config", "internal/daemon", "internal/health", "internal/history",
		"internal/setup",
		"scheduler", "retention", "snapshot", "restore", "crypt", "offsite", ""},
	"internal/daemon": {"internal/app", "internal/config", "internal/health", "internal/history", "internal/notify",
		"internal/web",
		"scheduler", "retention", "snapshot", "crypt", "offsite"},
	"internal/setup": {"internal/app", "internal/config", "snapshot", "restore", "crypt", "offsite", ""},
	"internal/app": {"internal/config", "internal/health", "internal/history", "internal/notify",
		"scheduler", "retention", "snapshot", "restore", "crypt", "offsite"},
	"internal/app/apptest": {"crypt"},
	"internal/health":      nil, // pure: nothing of ours, and nothing that does I/O
	"cmd/demo": {"internal/app", "internal/config", "internal/failure", "internal/fsx", "restore",
		"snapshot", "crypt", "offsite"},
	"cmd/demo/sftpserver":       {},
	"cmd/prove":                 {},
	"internal/config":           {"snapshot/chroma"}, // for the names of its methods
	"internal/config/configdoc": {},
	"internal/history":          {"internal/health"},
	"internal/notify":           {},
	"internal/web":              {"internal/health", "internal/history", "retention", "snapshot"},
	"internal/failure":          {},
	"internal/escape":           {},
	"internal/fsx":              {},
	"internal/fsx/fsxtest":      {"internal/provetest"},
	"internal/mutanttest":       {},
	"internal/provetest":        {},
	"internal/fsx/tree":         {},
	"internal/forktest":         {},
	"scheduler":                 nil, // nothing of ours, not even the ground
	"retention":                 nil,
	"crypt":                     {},
	"snapshot":                  {},
	"snapshot/sqlite":           {},
	"snapshot/chroma":           {"snapshot/sqlite"},
	"restore":                   {"snapshot"},
	"offsite":                   {"crypt", "retention", "snapshot"},
	"offsite/dir":               {"offsite", "crypt"},
	"offsite/s3":                {"offsite", "crypt"},
	"offsite/sftp":              {"offsite", "crypt"},
	"offsite/sftp/sshdtest":     {},
	"offsite/remotetest":        {"offsite"},
	"contrib/systemd":           {},
}

func TestArrowsPointOneWay(t *testing.T) {
	for _, p := range packages(t) {
		allowed, listed := layers[p.ImportPath]
		if !listed {
			t.Errorf("%s has no place in the house: list it in layers, with what it may import", p.ImportPath)
			continue
		}
		if allowed != nil {
			allowed = append(slices.Clone(allowed), ground...)
		}
		for _, imported := range p.Imports {
			name, ours := strings.CutPrefix(imported, module)
			if !ours {
				continue
			}
			name = strings.TrimPrefix(name, "/")
			ok := slices.ContainsFunc(allowed, func(dir string) bool {
				if dir == "" {
					return name == ""
				}
				return under(name, dir)
			})
			if !ok && !under(name, p.ImportPath) {
				t.Errorf("%s imports %s, which its place does not allow", p.ImportPath, name)
			}
		}
	}
}

// TestShippedBinaryServesNoSSH looks into the program itself: the demonstration's
// server must stay out of a daemon that runs beside other people's keys.
func TestShippedBinaryServesNoSSH(t *testing.T) {
	program := filepath.Join(t.TempDir(), "atobackupd")
	if out, err := exec.Command("go", "build", "-o", program, "./cmd/atobackupd").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	symbols, err := exec.Command("go", "tool", "nm", program).Output()
	if err != nil || !strings.Contains(string(symbols), "golang.org/x/crypto/ssh.NewClientConn") {
		t.Fatalf("go tool nm does not show its ssh client: %v", err)
	}
	for _, server := range []string{"crypto/ssh.NewServerConn", "pkg/sftp.NewServer", "pkg/sftp.NewRequestServer",
		"/cmd/demo"} {
		if strings.Contains(string(symbols), server) {
			t.Errorf("the shipped program contains %s", server)
		}
	}
	if out, err := exec.Command(program, "demo").CombinedOutput(); err == nil {
		t.Errorf("it has a command demo: %s", out)
	}
}

// TestTestPackagesStayInTests keeps what only tests need out of the binary.
func TestTestPackagesStayInTests(t *testing.T) {
	for _, p := range packages(t) {
		if strings.HasSuffix(p.ImportPath, "test") {
			continue // one may stand on another
		}
		for _, imported := range p.Imports {
			if strings.HasPrefix(imported, module+"/") && strings.HasSuffix(imported, "test") {
				t.Errorf("%s imports %s, which only tests may", p.ImportPath, imported)
			}
		}
	}
}

// TestHealthIsPure keeps the judge from looking anything up by itself.
func TestHealthIsPure(t *testing.T) {
	impure := []string{"os", "net", "io", "syscall", "database", "log", "github.com", "golang.org", "modernc.org"}
	for _, p := range packages(t) {
		if p.ImportPath != "internal/health" {
			continue
		}
		for _, imported := range p.Imports {
			if slices.ContainsFunc(impure, func(dir string) bool { return under(imported, dir) }) {
				t.Errorf("%s imports %s: facts are gathered elsewhere", p.ImportPath, imported)
			}
		}
	}
}

// walls lists which packages may import a library. The reasons: one place to
// change when the library does, and one place to look when it misbehaves.
var walls = map[string][]string{
	"modernc.org/sqlite":        {"snapshot/sqlite", "internal/history"},
	"modernc.org/libc":          {"snapshot/sqlite"}, // what SQLite is translated to
	"filippo.io/age":            {"crypt"},
	"github.com/hiddeco/sshsig": {"crypt"},
	// In crypt for keys and signatures, not for a connection.
	"golang.org/x/crypto/ssh":            {"offsite/sftp", "crypt", "cmd/demo/sftpserver"},
	"github.com/minio/minio-go":          {"offsite/s3"},
	"github.com/pkg/sftp":                {"offsite/sftp", "cmd/demo/sftpserver"},
	"github.com/robfig/cron/v3":          {"scheduler"},
	"github.com/spf13/cobra":             {"cmd/atobackupd"},
	"github.com/coreos/go-systemd":       {"internal/daemon"},
	"github.com/nicholas-fedor/shoutrrr": {"internal/notify"},
	"github.com/pelletier/go-toml":       {"internal/config"},
	"github.com/schollz/progressbar":     {"cmd"},
	"github.com/prometheus":              {"internal/web"},
	"github.com/chromedp":                {"internal/web"}, // its tests
}

func TestLibrariesStayBehindTheirWalls(t *testing.T) {
	used := make(map[string]bool)
	for _, p := range packages(t) {
		imports := slices.Concat(p.Imports, p.TestImports, p.XTestImports)
		for _, imported := range imports {
			for library, allowed := range walls {
				if !under(imported, library) {
					continue
				}
				used[library] = true
				if !slices.ContainsFunc(allowed, func(dir string) bool { return under(p.ImportPath, dir) }) {
					t.Errorf("%s imports %s, which only %v may", p.ImportPath, imported, allowed)
				}
			}
		}
	}
	for library := range walls {
		if !used[library] {
			t.Errorf("nobody imports %s any more: take its wall down", library)
		}
	}
}

// TestNothingIsSkipped keeps tests from quietly not running: what a test needs
// is installed, or the test fails and says what is missing.
func TestNothingIsSkipped(t *testing.T) {
	skip := regexp.MustCompile(`\b[tbf]\.Skip(Now|f)?\(|testing\.Short\(\)`)
	found := 0
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") || path == "arch_test.go" {
			return err
		}
		found++
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if at := skip.FindIndex(data); at != nil {
			t.Errorf("%s:%d can skip", path, 1+strings.Count(string(data[:at[0]]), "\n"))
		}
		return nil
	})
	if err != nil || found < 20 {
		t.Fatalf("%d test files found: %v", found, err)
	}
}

// byHandle lists the packages and files that work in trees that somebody else can
// write, and do so by directory handle alone (package internal/fsx/tree).
var byHandle = []string{
	"internal/fsx/tree", "internal/app/private.go", "offsite/dir",
	"snapshot/sources.go", "snapshot/registry.go", "snapshot/adoptforeign.go",
	"snapshot/sqlite/live.go", "snapshot/sqlite/connect.go", "snapshot/sqlite/peek.go", "snapshot/sqlite/query.go",
	"snapshot/chroma/walk.go", "snapshot/chroma/persist.go", "snapshot/chroma/lock.go",
	"restore/anchor.go", "restore/artifact.go", "restore/attributes.go", "restore/back.go", "restore/entries.go",
	"restore/extract.go", "restore/identity.go", "restore/journal.go", "restore/leaves.go", "restore/plan.go",
	"restore/planitem.go", "restore/replace.go", "restore/resume.go", "restore/session.go", "restore/set.go",
	"restore/source.go", "restore/stage.go", "restore/swap.go",
	"offsite/pull.go", "offsite/pull_digest.go", "offsite/pull_entries.go", "offsite/pull_look.go",
	"offsite/pull_packs.go", "offsite/pull_patches.go", "offsite/pull_rebuild.go",
}

// onHandles are the names of package os that take no path, or only make one.
var onHandles = map[string]bool{"NewFile": true, "File": true, "FileMode": true, "FileInfo": true, "PathError": true,
	"LinkError": true, "Geteuid": true, "Getegid": true, "Getgroups": true, "TempDir": true,
	"ReadFile": true} // of /etc, which is root's

// TestTreesOfOthersAreWalkedByHandle reads the syntax trees: a path that leads
// through a directory of somebody else's may lead elsewhere by the time it is
// used.
func TestTreesOfOthersAreWalkedByHandle(t *testing.T) {
	checked := 0
	for _, place := range byHandle {
		err := filepath.WalkDir(place, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			checked++
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok {
					if pkg, ok := s.X.(*ast.Ident); ok && pkg.Name == "os" && !onHandles[s.Sel.Name] {
						t.Errorf("%s: os.%s takes a path: use package internal/fsx/tree", path, s.Sel.Name)
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	if checked < len(byHandle) {
		t.Errorf("only %d files were read", checked)
	}
}
