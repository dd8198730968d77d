//go:build rig

package mutanttest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/provetest"
)

// tested is one test of a package: what it takes, and which mutants it reaches.
type tested struct {
	name    string
	took    time.Duration
	reaches map[string]bool
}

const (
	longest  = 20 * time.Second // a test that takes longer is left out: it would be run for each mutant
	patience = 10               // times what the tests take without a mutant, and longest: then it hangs
)

// TestMutants breaks each place of each guard, and has the package's tests that come
// by there run: one must fail. ATOBACKUPD_GUARDS is a regular expression of the
// packages, for a part of it.
func TestMutants(t *testing.T) {
	only := regexp.MustCompile(os.Getenv("ATOBACKUPD_GUARDS"))
	accepted := readAccepted(t)
	for _, g := range guards {
		if !only.MatchString(g.pkg) {
			continue
		}
		t.Run(g.pkg, func(t *testing.T) { g.tryAll(t, accepted) })
	}
	if os.Getenv("ATOBACKUPD_GUARDS") == "" {
		for m, left := range accepted {
			if left > 0 {
				t.Errorf("accepted, and not there or caught: %s", m)
			}
		}
	}
}

// readAccepted returns how many mutants of each description no test needs to catch:
// the line before them says why.
func readAccepted(t *testing.T) map[string]int {
	f, err := os.Open("testdata/accepted.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	accepted := map[string]int{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if line := lines.Text(); line != "" && !strings.HasPrefix(line, "#") {
			accepted[line]++
		}
	}
	return accepted
}

func (g guard) tryAll(t *testing.T, accepted map[string]int) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	binary, mutants := g.build(t, root)
	dir := filepath.Join(root, g.pkg)
	tests := g.survey(t, binary, dir)
	var mu sync.Mutex // of accepted
	queue := make(chan Mutant)
	var workers sync.WaitGroup
	for range runtime.NumCPU() {
		workers.Go(func() {
			for m := range queue {
				caught := catches(t, binary, dir, m, tests)
				mu.Lock()
				known := accepted[m.String()] > 0
				if accepted[m.String()]--; caught || !known {
					accepted[m.String()]++
				}
				mu.Unlock()
				if !caught && !known {
					where := fmt.Sprintf("%s:%d", m.File, m.Line)
					t.Run(where, func(t *testing.T) { t.Errorf("nobody noticed: %s", m) })
				}
			}
		})
	}
	for _, m := range mutants {
		queue <- m
	}
	close(queue)
	workers.Wait()
	provetest.Points(t, len(mutants))
}

// build compiles the package's tests with all mutants, each turned off.
func (g guard) build(t *testing.T, root string) (binary string, mutants []Mutant) {
	temp := t.TempDir()
	replace := map[string]string{}
	put := func(path, text string) {
		temporary := filepath.Join(temp, strings.ReplaceAll(path, "/", "_"))
		if err := os.WriteFile(temporary, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(root, path)] = temporary
	}
	for file, functions := range g.files {
		path := filepath.Join(g.pkg, file)
		source, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		text, more, err := Mutate(path, source, functions)
		if err != nil {
			t.Fatal(err)
		}
		put(path, string(text))
		mutants = append(mutants, more...)
	}
	put(filepath.Join(g.pkg, "mutants.go"), "package "+filepath.Base(g.pkg)+"\n"+Switches)
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(temp, "overlay.json"), overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	binary = filepath.Join(temp, "tests")
	cmd := exec.Command("go", "test", "-c", "-vet=off", "-overlay", filepath.Join(temp, "overlay.json"), "-o", binary,
		"./"+g.pkg)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return binary, mutants
}

// survey runs each test by itself, without a mutant.
func (g guard) survey(t *testing.T, binary, dir string) (tests []tested) {
	list, err := exec.Command(binary, "-test.list", "^Test").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Fields(string(list)) {
		if g.without != "" && regexp.MustCompile(g.without).MatchString(name) {
			continue
		}
		reached := filepath.Join(t.TempDir(), "reached")
		start := time.Now()
		passed, output := run(binary, dir, []string{name}, longest, "ATOBACKUPD_MUTANTS_REACHED="+reached)
		took := time.Since(start)
		if took >= longest {
			t.Logf("%s takes too long", name)
			continue
		}
		if !passed {
			t.Fatalf("%s fails without a mutant: %s", name, output)
		}
		one := tested{name, took, map[string]bool{}}
		ids, err := os.ReadFile(reached)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		for _, id := range strings.Fields(string(ids)) {
			one.reaches[id] = true
		}
		if len(one.reaches) > 0 {
			tests = append(tests, one)
		}
	}
	slices.SortFunc(tests, func(a, b tested) int { return int(a.took - b.took) })
	return tests
}

// catches reports whether a test fails with the mutant: the quick ones are run first.
func catches(t *testing.T, binary, dir string, m Mutant, tests []tested) bool {
	var names []string
	took := time.Duration(0)
	flush := func() (caught bool) {
		if len(names) > 0 {
			passed, _ := run(binary, dir, names, took*patience+longest, "ATOBACKUPD_MUTANT="+m.ID)
			caught = !passed
		}
		names, took = nil, 0
		return caught
	}
	for _, one := range tests {
		if !one.reaches[m.ID] {
			continue
		}
		names = append(names, one.name)
		if took += one.took; took > 2*time.Second && flush() {
			return true
		}
	}
	return flush()
}

// run runs some tests, and reports whether all passed in time.
func run(binary, dir string, names []string, deadline time.Duration, env string) (passed bool, output []byte) {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "-test.run", "^("+strings.Join(names, "|")+")$", "-test.failfast")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env, "RAPID_NOFAILFILE=1")
	cmd.WaitDelay = time.Second
	output, err := cmd.CombinedOutput()
	return err == nil, output
}

// The page names every guard: it is written anew with ATOBACKUPD_WRITE_GUARDS=1.
func TestRigGuardsAreListed(t *testing.T) {
	const page, begin, end = "../../docs/testing.md", "<!-- guards: begin -->\n", "<!-- guards: end -->\n"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(text), begin)
	listed, after, found := strings.Cut(rest, end)
	if !found {
		t.Fatal("the marks are missing")
	}
	var want strings.Builder
	want.WriteString("| package | functions |\n|---|---|\n")
	for _, g := range guards {
		var all []string
		for _, file := range slices.Sorted(maps.Keys(g.files)) {
			all = append(all, g.files[file]...)
		}
		fmt.Fprintf(&want, "| %s | %s |\n", g.pkg, strings.Join(all, ", "))
	}
	if listed == want.String() {
		return
	}
	if os.Getenv("ATOBACKUPD_WRITE_GUARDS") == "" {
		t.Fatalf("docs/testing.md lists\n%sand not\n%s", listed, &want)
	}
	if err := os.WriteFile(page, []byte(before+begin+want.String()+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
