package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
)

func TestTestNotify(t *testing.T) {
	c := config.Default()
	if _, err := TestNotify(t.Context(), c, "vm"); failure.KindOf(err) != failure.Config {
		t.Errorf("nobody to tell: %v", err)
	}
	out := filepath.Join(t.TempDir(), "out")
	c.Notify.Command = []string{"/bin/sh", "-c", "cat >" + out}
	if n, err := TestNotify(t.Context(), c, "vm"); n != 1 || err != nil {
		t.Errorf("sent to %d, %v", n, err)
	}
	if text, err := os.ReadFile(out); err != nil || !strings.HasPrefix(string(text), "atobackupd on vm: a test\n") {
		t.Errorf("got %q, %v", text, err)
	}
	c.Notify.Command = []string{"/bin/false"}
	if _, err := TestNotify(t.Context(), c, "vm"); failure.KindOf(err) != failure.Other {
		t.Errorf("a command that fails: %v", err)
	}
}
