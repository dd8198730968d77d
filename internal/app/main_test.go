package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
)

// What is killed, or is somebody else, is another process: this test binary
// again, told by roleEnv what to do with the directory in dirEnv.
const (
	roleEnv = "DAEMON_TEST_ROLE"
	dirEnv  = "DAEMON_TEST_DIR"
)

var roles = map[string]func(dir string) error{
	"prove the API": ProveAPI,
	"prune": func(dir string) (err error) {
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
	},
}

func TestMain(m *testing.M) {
	role := os.Getenv(roleEnv)
	if role == "" {
		os.Exit(m.Run())
	}
	if err := roles[role](os.Getenv(dirEnv)); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}
