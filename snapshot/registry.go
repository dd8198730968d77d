package snapshot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// The registry may be read while an editor is saving it: then it does not
// parse, or changes while it is read, or is not there for a moment. Four looks
// over two seconds tell a save from a broken file, two from a missing one.
const (
	registryTries = 4
	registryPause = 650 * time.Millisecond
)

// readRegistry returns the registry's bytes, once they are whole JSON and did not
// move while they were read. A missing registry is fs.ErrNotExist.
func readRegistry(ctx context.Context, p place) ([]byte, error) {
	wasMissing := false
	for try := 1; ; try++ {
		data, unsettled, err := readStable(p)
		missing := errors.Is(err, fs.ErrNotExist)
		switch {
		case missing && (wasMissing || try == registryTries):
			return nil, err
		case err != nil && !missing:
			hint := "this process must be able to read the registry; correct its permissions, or atocore.registry_path"
			if errors.Is(err, tree.ErrTooLarge) || errors.Is(err, tree.ErrNotRegular) {
				hint = "look at what lies there: a registry is a file of some kilobytes; or correct atocore.registry_path"
			}
			return nil, &failure.Error{Op: "backup", Subject: p.path(), Err: reason(err), Hint: hint}
		case err == nil && unsettled == nil:
			return data, nil
		case try == registryTries:
			return nil, &failure.Error{
				Op:      "backup",
				Subject: p.path(),
				Err:     fmt.Errorf("registry_invalid_json: %w", unsettled),
				Hint:    "repair the registry, or wait until its editor is done, and take the snapshot again",
			}
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
func readStable(p place) (data []byte, unsettled, err error) {
	before, err := p.dir.Lstat(p.name)
	if err != nil {
		return nil, nil, err
	}
	if data, err = p.dir.ReadFile(p.name, maxRegistry); err != nil {
		return nil, nil, err
	}
	after, err := p.dir.Lstat(p.name)
	if err != nil {
		return nil, nil, err
	}
	if before.ID != after.ID || before.Size != after.Size || !before.MTime.Equal(after.MTime) ||
		int64(len(data)) != after.Size {
		return nil, errors.New("it changed while it was read"), nil
	}
	return data, checkJSON(data), nil
}

// maxRegistry bounds what is read of a file that the application can make as large
// as it likes without using a block.
const maxRegistry = 64 << 20

// checkJSON says where a document stops being JSON as Python's json reads it, so
// that a person finds it. NaN and the infinities pass, and so do numbers of any
// size, keys that are there twice and any depth: AtoCore writes and reads them.
func checkJSON(data []byte) error {
	if rest := bytes.ToValidUTF8(data, nil); len(rest) != len(data) {
		at := 0
		for at < len(rest) && rest[at] == data[at] {
			at++
		}
		return fmt.Errorf("line %d: it is not UTF-8", 1+bytes.Count(data[:at], []byte("\n")))
	}
	var v json.RawMessage // proves the syntax and converts no number
	err := json.Unmarshal(withoutConstants(data), &v)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		if strings.Contains(err.Error(), "exceeded max depth") {
			return nil
		}
		before := data[:min(int(syntax.Offset), len(data))]
		return fmt.Errorf("line %d: %w", 1+bytes.Count(before, []byte("\n")), err)
	}
	return err
}

// withoutConstants returns a document of the same length in which Python's
// constants stand as empty lists.
func withoutConstants(data []byte) []byte {
	out := bytes.Clone(data)
	inString := false
	for i := 0; i < len(out); i++ {
		switch {
		case inString && out[i] == '\\':
			i++
		case out[i] == '"':
			inString = !inString
		case !inString:
			for _, constant := range []string{"NaN", "Infinity", "-Infinity"} {
				if bytes.HasPrefix(out[i:], []byte(constant)) {
					copy(out[i:], "[]"+strings.Repeat(" ", len(constant)-2))
				}
			}
		}
	}
	return out
}
