package main

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"
)

func TestPageIsUpToDate(t *testing.T) {
	want, err := page(os.DirFS(".."))
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/configuration.md is stale: go generate ./internal/config/...")
	}
}

func TestPage(t *testing.T) {
	const source = `package config
// Config is all of it.
type Config struct {
	// StateDir is the directory. Default "/var/lib".
	StateDir string ` + "`toml:\"state_dir\"`" + `
	Backup Backup ` + "`toml:\"backup\"`" + `
	hidden int
}
// Backup says where it goes.
type Backup struct {
	// MinFree is left in StateDir, unlike backup.words. Default "1GiB".
	MinFree Size ` + "`toml:\"min_free\"`" + `
	// Words are listed in [backup].
	Words []string ` + "`toml:\"words,omitempty\"`" + `
}
`
	got, err := page(fstest.MapFS{"config.go": {Data: []byte(source)}, "a_test.go": {Data: []byte("not Go")}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"\n- **`state_dir`** is the directory. Default `\"/var/lib\"`. *(string)*\n",
		"\n## [backup]\n\nThis says where it goes.\n",
		"\n- **`min_free`** is left in `state_dir`, unlike `backup.words`.",
		"\n- **`words`** are listed in `[backup]`. *(list of strings)*\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in:\n%s", want, got)
		}
	}
}

func TestKeyWithoutComment(t *testing.T) {
	for _, source := range []string{
		"package config\ntype Config struct {\n\tBare string `toml:\"bare\"`\n}\n",
		"package config\ntype Config struct {\n\t// Odd is odd.\n\tOdd complex64 `toml:\"odd\"`\n}\n",
		"package config\ntype Config struct {\n\t// It is odd.\n\tOdd int `toml:\"odd\"`\n}\n",
		"package config\n",
		"nothing",
	} {
		if _, err := page(fstest.MapFS{"config.go": {Data: []byte(source)}}); err == nil {
			t.Errorf("no error for %q", source)
		}
	}
}
