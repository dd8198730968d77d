package snapshot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/failure"
)

// The registry may be read while an editor is saving it: then it does not
// parse, or changes while it is read, or is not there for a moment. Four looks
// over two seconds tell a save from a broken file, two from a missing one.
const (
	registryTries = 4
	registryPause = 650 * time.Millisecond
)

// readRegistry gives the registry's bytes, once they are whole JSON and did not
// move while they were read. A missing registry is fs.ErrNotExist.
func readRegistry(ctx context.Context, path string) ([]byte, error) {
	wasMissing := false
	for try := 1; ; try++ {
		data, unsettled, err := readStable(path)
		missing := errors.Is(err, fs.ErrNotExist)
		switch {
		case missing && (wasMissing || try == registryTries):
			return nil, err
		case err != nil && !missing:
			return nil, &failure.Error{Op: "backup", Subject: path, Err: reason(err),
				Hint: "this process must be able to read the registry; correct its permissions, or atocore.registry_path"}
		case err == nil && unsettled == nil:
			return data, nil
		case try == registryTries:
			return nil, &failure.Error{Op: "backup", Subject: path, Err: fmt.Errorf("registry_invalid_json: %w", unsettled),
				Hint: "repair the registry, or wait until its editor is done, and take the snapshot again"}
		}
		wasMissing = missing
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(registryPause):
		}
	}
}

// readStable reads the registry and says why it looks as if somebody was
// writing it; nil when it does not.
func readStable(path string) (data []byte, unsettled, err error) {
	before, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	if data, err = readWhole(path); err != nil {
		return nil, nil, err
	}
	after, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	if !os.SameFile(before, after) || before.Size() != after.Size() || !before.ModTime().Equal(after.ModTime()) || int64(len(data)) != after.Size() {
		return nil, errors.New("it changed while it was read"), nil
	}
	return data, checkJSON(data), nil
}

var errNotRegular = errors.New("not a regular file")

// readWhole reads a live file. It follows symbolic links, but does not wait for
// the writer of a FIFO.
func readWhole(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, errNotRegular
	}
	return io.ReadAll(f)
}

// checkJSON says where a document stops being JSON, so that a person finds it.
func checkJSON(data []byte) error {
	var v any
	err := json.Unmarshal(data, &v)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		before := data[:min(int(syntax.Offset), len(data))]
		return fmt.Errorf("line %d: %w", 1+bytes.Count(before, []byte("\n")), err)
	}
	return err
}
