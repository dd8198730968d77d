package app

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/forktest"
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
)

// roles are what this test binary does as another process: what is killed, or is
// somebody else.
var roles = map[string]forktest.Role{
	"keep notes":    forktest.JSON(keepNotes),
	"prove the API": forktest.JSON(ProveAPI),
	"prune": forktest.JSON(func(dir string) error {
		return killable(dir, func(ctx context.Context, a *App) error {
			_, err := a.Prune(ctx, pruneNoon, false, true)
			return err
		})
	}),
	"sync": forktest.JSON(func(dir string) error {
		return killable(dir, func(ctx context.Context, a *App) error {
			_, err := a.Sync(ctx, "", false)
			return err
		})
	}),
}

// killable does a job in the installation of a directory, and is killed in it where
// fsxtest.KillEnv says so.
func killable(dir string, job func(context.Context, *App) error) (err error) {
	cfg, err := config.Load(filepath.Join(dir, "config.toml"))
	if err != nil {
		return err
	}
	a, err := Open(context.Background(), cfg, Options{Version: "test", Host: "dalidou",
		Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	fsxtest.KillIfAsked()
	return job(context.Background(), a)
}

func TestMain(m *testing.M) { os.Exit(forktest.Main(m.Run, roles)) }
