package chroma

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// CopyRaw saves as much of the Chroma directory src as can be read, byte for
// byte with whatever lies beside its database, to dst, which must not exist: for
// a directory that is damaged, so that whoever repairs it has all of it. Nothing
// is settled, nothing is proven about it, and nothing that was found wrong is an
// error: Warnings name what could not be saved, and Report says what the
// validator thinks of the rest. What was saved is durable when it returns nil.
func CopyRaw(ctx context.Context, src *tree.Dir, dst string, o Options) (c Copied, err error) {
	m, err := newMirror(src, dst, o.Share, func(string) bool { return false })
	if err != nil {
		return c, err
	}
	defer func() {
		if err != nil {
			_ = fsx.RemoveAll(dst)
		}
	}()
	var lost []Finding
	leaveOut := func(name string, why error) {
		lost = append(lost, Finding{CodeLeftOut, fmt.Sprintf("%s could not be saved: %v", name, why)})
	}
	w := walker{root: m.src, refused: leaveOut}
	if err := w.dir(".", 0); err != nil {
		return c, err
	}
	if err := m.salvage(ctx, w.entries, leaveOut); err != nil {
		return c, err
	}
	c = m.describe("raw")
	if err := m.finish(); err != nil {
		return c, err
	}
	if c.Report, err = o.judge(ctx, dst); err != nil {
		return c, err
	}
	c.Consistency = Unverified
	c.Warnings = append(append(c.Warnings, lost...), c.Report.Warnings...)
	return c, nil
}

// salvage copies each entry that can be read. What is wrong with the copy's own
// disk ends it.
func (m *mirror) salvage(ctx context.Context, seen []Entry, leaveOut func(name string, why error)) error {
	for _, e := range seen {
		err := m.add(ctx, e)
		switch {
		case err == nil:
			m.order, m.have[e.Path] = append(m.order, e.Path), e
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errMoved), errors.Is(err, fs.ErrNotExist), m.cannotRead(e):
			leaveOut(e.Path, err)
		default:
			return err
		}
	}
	return nil
}

// cannotRead reports whether it is the source that fails: it does so again when it
// is only read.
func (m *mirror) cannotRead(e Entry) bool {
	if e.Type != TypeFile {
		return false
	}
	in, err := m.src.OpenFile(e.Path)
	if err != nil {
		return true
	}
	defer in.Close()
	_, err = io.Copy(io.Discard, in)
	return err != nil
}
