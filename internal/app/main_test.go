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
	"prune": forktest.JSON(func(dir string) (err error) {
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
		_, err = a.Prune(context.Background(), pruneNoon, false, true)
		return err
	}),
}

func TestMain(m *testing.M) { os.Exit(forktest.Main(m.Run, roles)) }
