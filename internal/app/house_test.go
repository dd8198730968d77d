package app

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/app/apptest"
	"github.com/atocore/atobackupd/internal/config"
)

// house is an installation with a database and one target.
type house struct {
	t   *testing.T
	dir string
}

func newHouse(t *testing.T, more string) *house {
	t.Helper()
	return &house{t: t, dir: apptest.Make(t, more)}
}

func (h *house) path(name string) string { return filepath.Join(h.dir, name) }

func (h *house) write(name, text string) {
	h.t.Helper()
	if err := os.WriteFile(h.path(name), []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) move(from, to string) {
	h.t.Helper()
	if err := os.Rename(h.path(from), h.path(to)); err != nil {
		h.t.Fatal(err)
	}
}

// open opens the installation as the daemon does.
func (h *house) open() *App {
	h.t.Helper()
	cfg, err := config.Load(h.path("config.toml"))
	if err != nil {
		h.t.Fatal(err)
	}
	a, err := Open(h.t.Context(), cfg, Options{Version: "test", Host: "dalidou",
		Log: slog.New(slog.NewTextHandler(h.t.Output(), nil))})
	if err != nil {
		h.t.Fatal(err)
	}
	return a
}

var noon = time.Date(2026, 4, 7, 12, 0, 0, 0, time.UTC)

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
