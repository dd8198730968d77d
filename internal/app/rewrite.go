package app

import (
	"context"
	"encoding/json"
	"os"
	"time"

	"github.com/atocore/atobackupd/internal/fsx"
)

// rewritePatience is how long a change of a file waits for another one.
const rewritePatience = 10 * time.Second

// rewriteJSON changes what a file holds as JSON, under a lock, for several processes
// may do so at once. A change that changes nothing writes nothing.
func rewriteJSON[T any](
	ctx context.Context, path, lockPath, purpose string, read func() (T, error), change func(*T),
) error {
	lock, err := fsx.LockFile(ctx, lockPath, purpose, rewritePatience, nil)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	value, err := read()
	if err != nil {
		return err
	}
	before, err := json.Marshal(value)
	if err != nil {
		return err
	}
	change(&value)
	if same, err := json.Marshal(value); err != nil || string(same) == string(before) {
		return err
	}
	after, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	return fsx.WriteFile(path, append(after, '\n'), 0o600)
}

// moveAsideUnreadable keeps a file that cannot be read beside the one that takes its
// place.
func moveAsideUnreadable(path string) error { return os.Rename(path, path+".unreadable") }
