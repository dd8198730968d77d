package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/internal/failure"
)

var update = flag.Bool("update", false, "write the .err files anew, to be read before they are committed")

func files(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob("testdata/" + dir + "/*.toml")
	if err != nil || len(names) < 10 {
		t.Fatalf("only %d files in %s: %v", len(names), dir, err)
	}
	return names
}

// Every good file parses, and what Show prints of it means the same.
func TestGoodFiles(t *testing.T) {
	for _, name := range files(t, "good") {
		t.Run(filepath.Base(name), func(t *testing.T) {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			c, err := Parse(name, data)
			if err != nil {
				t.Fatal(err)
			}
			text, err := c.Show()
			if err != nil {
				t.Fatal(err)
			}
			again, err := Parse("shown", text)
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			again.Notify = c.Notify // Show hides its secrets
			equal(t, again, c)
		})
	}
}

// Every bad file fails with the message that stands beside it.
func TestBadFiles(t *testing.T) {
	for _, name := range files(t, "bad") {
		t.Run(filepath.Base(name), func(t *testing.T) {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Parse(filepath.Base(name), data)
			if failure.KindOf(err) != failure.Config {
				t.Fatalf("kind %v of error %v", failure.KindOf(err), err)
			}
			checkParts(t, err)
			got := err.Error() + "\n"
			if strings.Contains(strings.ToLower(got), "hunter2") {
				t.Errorf("prints the secret: %s", got)
			}
			wanted := strings.TrimSuffix(name, ".toml") + ".err"
			if *update {
				if err := os.WriteFile(wanted, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(wanted)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}

// checkParts holds every problem to a *failure.Error on a line of its own.
func checkParts(t *testing.T, err error) {
	t.Helper()
	parts := []error{err}
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		parts = joined.Unwrap()
	}
	for _, part := range parts {
		var f *failure.Error
		if !errors.As(part, &f) || f.Kind != failure.Config || strings.Contains(part.Error(), "\n") {
			t.Errorf("not one problem on one line: %#v", part)
		}
	}
}
