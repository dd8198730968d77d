package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
)

// The registry may be read while an editor is saving it: then it does not
// parse, or changes while it is read. Four looks over two seconds tell a save
// from a broken file.
const (
	registryTries = 4
	registryPause = 650 * time.Millisecond
)

// readRegistry gives the registry's bytes, once they are whole JSON and did not
// move while they were read. A missing registry is fs.ErrNotExist.
func readRegistry(ctx context.Context, path string) (data []byte, err error) {
	for try := 1; ; try++ {
		data, err = readStableJSON(path)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return data, err
		}
		if try == registryTries {
			return nil, &failure.Error{Op: "backup", Subject: path, Err: fmt.Errorf("registry_invalid_json: %w", err),
				Hint: "repair the registry, or wait until its editor is done, and take the snapshot again"}
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(registryPause):
		}
	}
}

func readStableJSON(path string) ([]byte, error) {
	before, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	after, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !os.SameFile(before, after) || before.Size() != after.Size() || !before.ModTime().Equal(after.ModTime()) || int64(len(data)) != after.Size() {
		return nil, errors.New("it changed while it was read")
	}
	return data, checkJSON(data)
}

// checkJSON says where a document stops being JSON, so that a person finds it.
func checkJSON(data []byte) error {
	var v any
	err := json.Unmarshal(data, &v)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		line := 1
		for _, c := range data[:min(int(syntax.Offset), len(data))] {
			if c == '\n' {
				line++
			}
		}
		return fmt.Errorf("line %d: %w", line, err)
	}
	return err
}
