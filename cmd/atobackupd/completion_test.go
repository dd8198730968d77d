package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/crypt"
)

// What the shell asks while somebody types.
func TestCompletion(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("ATOBACKUPD_CONFIG", filepath.Join(dir, "config.toml"))
	_, recipient, err := crypt.GenerateIdentity()
	must(t, err)
	must(t, os.MkdirAll(filepath.Join(dir, "live"), 0o755))
	makeMemories(t, filepath.Join(dir, "live/a.db"), 3)
	must(t, os.WriteFile(filepath.Join(dir, "config.toml"), fmt.Appendf(nil, `state_dir = "%[1]s/state"
[atocore]
db_path = "%[1]s/live/a.db"
[backup]
dir = "%[1]s/backups"
min_free = "1MiB"
[encryption]
recipients = ["%[2]s"]
[[offsite]]
name = "disk"
type = "dir"
path = "%[1]s/vault"
[[offsite]]
name = "drawer"
type = "dir"
path = "%[1]s/other"
`, dir, recipient), 0o600))
	command(t, 0, "backup")
	command(t, 0, "sync", "--target", "disk")
	entries, err := os.ReadDir(filepath.Join(dir, "backups/snapshots"))
	must(t, err)
	stamp := entries[0].Name()
	vault := filepath.Join(dir, "vault")
	for _, c := range []struct {
		words string
		want  []string
	}{
		{"validate ", []string{"latest", stamp}},
		{"restore ", []string{"latest", stamp}},
		{"drill ", []string{"latest", stamp}},
		{"export ", []string{"latest", stamp}},
		{"pin ", []string{"latest", stamp}},
		{"vault restore ", []string{"latest", stamp}},
		{"vault restore --target drawer ", []string{"latest"}},
		{"vault verify --dir " + vault + " ", []string{"latest", stamp}},
		{"target trust ", []string{"disk", "drawer"}},
		{"target test d", []string{"disk", "drawer"}},
		{"sync --target ", []string{"disk", "drawer"}},
		{"restore latest --from ", []string{"disk", "drawer"}},
		{"backup --kind ", []string{"daily", "weekly", "monthly", "manual"}},
		{"completion ", []string{"bash", "zsh", "fish"}},
		{"validate " + stamp + " ", nil},
	} {
		words := strings.Split(c.words, " ")
		var got []string
		for _, line := range strings.Split(command(t, 0, append([]string{"__complete"}, words...)...), "\n") {
			word, _, _ := strings.Cut(line, "\t")
			if word != "" && !strings.HasPrefix(word, ":") {
				got = append(got, word)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, want %q", c.words, got, c.want)
		}
	}
}

// Each shell gets a script that asks this program, and bash reads its own.
func TestCompletionScripts(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if script := command(t, 0, "completion", shell); !strings.Contains(script, "__complete") {
			t.Errorf("%s: %.200s", shell, script)
		}
	}
	script := command(t, 0, "completion", "bash")
	check := exec.Command("bash", "-n")
	check.Stdin = strings.NewReader(script)
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("bash does not read it: %v\n%s", err, out)
	}
}
