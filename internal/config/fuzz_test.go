package config

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/atocore/atobackupd/internal/failure"
)

// FuzzParse holds Parse to: no panic, errors of kind Config, and a
// configuration that Show prints so that it parses again.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/good/*.toml", "testdata/bad/*.toml", example} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			f.Fatalf("no seeds in %s: %v", pattern, err)
		}
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("fuzz", data)
		if err != nil {
			if failure.KindOf(err) != failure.Config || err.Error() == "" {
				t.Fatalf("%#v", err)
			}
			return
		}
		c.Warnings(noGap)
		text, err := c.Show()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse("shown", text); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
	})
}
