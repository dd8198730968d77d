package mutanttest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const sample = `package main

import "fmt"

func guard(a, b int) error {
	if a > b && b != 0 {
		return fmt.Errorf("no")
	}
	n := 0
	n++
	switch {
	case n == 0:
		return fmt.Errorf("skipped")
	}
	return also(a)
}

func also(a int) error {
	if a == 7 {
		return fmt.Errorf("seven")
	}
	return nil
}

func main() { fmt.Println(guard(3, 2), guard(3, 0), guard(2, 2), guard(7, 9)) }
`

// Each mutant of the sample is one program, which answers otherwise than the sample.
func TestMutate(t *testing.T) {
	text, mutants, err := Mutate("main.go", []byte(sample), []string{"guard"})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, data := range map[string]string{"main.go": string(text), "switches.go": "package main\n" + Switches,
		"go.mod": "module sample\n\ngo 1.24\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-o", "sample", ".")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s\n%s", err, out, text)
	}
	run := func(env ...string) string {
		cmd := exec.Command(filepath.Join(dir, "sample"))
		cmd.Env = append(os.Environ(), env...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v: %s", env, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	reached := filepath.Join(dir, "reached")
	if got := run("ATOBACKUPD_MUTANTS_REACHED=" + reached); got != "no <nil> <nil> seven" {
		t.Errorf("without a mutant: %s", got)
	}
	seen, err := os.ReadFile(reached)
	// All but the one that needs n == 0.
	if err != nil || len(strings.Fields(string(seen))) != len(mutants)-1 {
		t.Errorf("%d mutants, reached: %s, %v", len(mutants), seen, err)
	}
	want := map[string]string{
		"never: a > b && b != 0":  "<nil> <nil> <nil> seven",
		"always: a > b && b != 0": "no no no no",
		"dropped: a > b":          "no <nil> no no",
		"dropped: b != 0":         "no no <nil> seven",
		"bound: a > b":            "no <nil> no seven",
		"skipped: n++":            "no skipped skipped skipped",
		"never: n == 0":           "no <nil> <nil> seven", // which is no other answer
		"always: n == 0":          "no skipped skipped skipped",
		"not asked: also(a)":      "no <nil> <nil> <nil>",
	}
	for _, m := range mutants {
		how := m.How + ": " + m.Text
		if got := run("ATOBACKUPD_MUTANT=" + m.ID); got != want[how] {
			t.Errorf("%s: %s, not %s", m, got, want[how])
		}
		delete(want, how)
	}
	if len(want) > 0 {
		t.Errorf("not made: %v", want)
	}
	if _, _, err := Mutate("main.go", []byte(sample), []string{"gone"}); err == nil {
		t.Error("a function that is not there was passed over")
	}
}
