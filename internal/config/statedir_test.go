package config

import (
	"os"
	"path/filepath"
	"testing"
)

func TestGuessStateDir(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	tests := []struct{ env, text, want string }{
		{"", "state_dir = \"/srv/state\"\n[backup\n", "/srv/state"},
		{"", "# state_dir = \"/srv/other\"\n  state_dir='/srv/state/'\nnonsense", "/srv/state"},
		{"", "state_dir = \"/srv/../etc\"\n", "/var/lib/atobackupd"},
		{"", "state_dir = \"relative\"\n", "/var/lib/atobackupd"},
		{"", "", "/var/lib/atobackupd"},
		{"/run/systemd/state", "state_dir = \"/srv/state\"\n", "/run/systemd/state"},
		{"relative", "state_dir = \"/srv/state\"\n", "/srv/state"},
	}
	for _, test := range tests {
		t.Setenv("STATE_DIRECTORY", test.env)
		if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := GuessStateDir(path); got != test.want {
			t.Errorf("%q, %q: %s, want %s", test.env, test.text, got, test.want)
		}
	}
	t.Setenv("STATE_DIRECTORY", "")
	if got := GuessStateDir("/nonexistent"); got != "/var/lib/atobackupd" {
		t.Errorf("no file: %s", got)
	}
}
