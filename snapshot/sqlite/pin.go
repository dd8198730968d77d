package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// pin is a read transaction on a live database. While it is held, no checkpoint
// passes what it reads and the database file cannot be replaced by SQLite, so
// the files can be copied raw.
type pin struct {
	db          *sql.DB
	conn        *sql.Conn
	raw         []*os.File
	journalMode string
}

// takePin starts the transaction and reads from it: BEGIN alone locks nothing.
func takePin(ctx context.Context, src Live, busy time.Duration) (_ *pin, err error) {
	db, err := src.OpenReadOnly(ctx, busy)
	if err != nil {
		return nil, err
	}
	p := &pin{db: db}
	defer func() {
		if err != nil {
			p.release()
		}
	}()
	if p.conn, err = db.Conn(ctx); err != nil {
		return nil, err
	}
	if _, err := p.conn.ExecContext(ctx, "BEGIN"); err != nil {
		return nil, err
	}
	var name string
	err = p.conn.QueryRowContext(ctx, "SELECT name FROM sqlite_master LIMIT 1").Scan(&name)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, err
	}
	// Asked inside the transaction, so that it cannot change any more.
	if err := p.conn.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&p.journalMode); err != nil {
		return nil, err
	}
	return p, nil
}

// open opens a file of the pinned database raw. The descriptor stays open until
// the transaction has ended: closing it earlier would drop the pin's locks.
func (p *pin) open(src Live, suffix string) (*os.File, error) {
	f, err := src.raw(suffix)
	if err == nil {
		p.raw = append(p.raw, f)
	}
	return f, err
}

// release ends the transaction, closes the connection, and only then the raw
// descriptors. It may be called more than once.
func (p *pin) release() {
	if p.conn != nil {
		p.conn.Close()
	}
	p.db.Close()
	for _, f := range p.raw {
		f.Close()
	}
	p.raw = nil
}

// errUnusable is of a copy that the pin cannot protect; the backup API can.
var errUnusable = errors.New("the WAL could not be copied")

// copyPinned copies the database file and then its WAL while pin is held, and
// replays the one into the other. On errUnusable the pin is still held.
func (c copier) copyPinned(ctx context.Context, p *pin, src source, d *tempCopy) (method string, err error) {
	main, err := p.open(src.Live, "")
	if err != nil {
		return "", err
	}
	// The same file before SQLite's open and after it, so SQLite has it too.
	if info, err := tree.FileInfo(main); err != nil {
		return "", err
	} else if info.ID != src.info.ID {
		return "", errMoved
	}
	wal, err := p.open(src.Live, walSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w: there is none", errUnusable)
	} else if err != nil {
		return "", err
	}
	how, err := c.clone(ctx, d.file, main, c.Share)
	if err != nil {
		return "", err
	}
	if err := c.copyWAL(ctx, d, wal); err != nil {
		return "", err
	}
	p.release() // the WAL of the source grows until then
	if err := replayWAL(ctx, d.path); err != nil {
		return "", err
	}
	if how == fsx.Reflink {
		return "wal-reflink", d.finish()
	}
	return "wal-copy", d.finish()
}

// maxWALCopies bounds copying the WAL again. Once is expected at most: the WAL
// restarts only when it has been checkpointed whole, and while the pin is held
// nothing more is checkpointed than was before.
const maxWALCopies = 3

// copyWAL copies the WAL beside the draft. A WAL that had been checkpointed
// whole before the pin can be restarted by a writer while it is copied: new
// frames then overwrite old ones from the start. A mixture could replay old
// pages over the newer ones in the database file, soundly structured and wrong.
// A restart writes the header, with new salts, before any frame; so a header
// that is the same before and after the copy proves that there was none.
func (c copier) copyWAL(ctx context.Context, d *tempCopy, wal *os.File) (err error) {
	out, err := fsx.Create(d.path+walSuffix, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	for range maxWALCopies {
		before, err := walHeader(wal)
		if err != nil {
			return err
		}
		if err := out.Truncate(0); err != nil {
			return err
		}
		if _, err := out.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if _, err := c.clone(ctx, out, wal, c.Share); err != nil {
			return err
		}
		after, err := walHeader(wal)
		if err != nil {
			return err
		}
		if bytes.Equal(before, after) || c.trustWAL {
			return nil
		}
	}
	if err := os.Remove(d.path + walSuffix); err != nil {
		return err
	}
	return fmt.Errorf("%w: it was restarted %d times", errUnusable, maxWALCopies)
}

// walHeader reads the 32 bytes that change when a WAL starts anew; fewer when
// it is empty.
func walHeader(wal *os.File) ([]byte, error) {
	buf := make([]byte, 32)
	n, err := wal.ReadAt(buf, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return buf[:n], nil
}

// replayWAL lets SQLite recover the WAL beside a private copy, up to its last
// whole commit, and move it into the database file; closing removes it. The
// header keeps saying WAL. Nothing is synced on the way, since the copy is
// worth nothing before its one fsync at the end, and exclusive locking keeps
// the index of the WAL in memory instead of a -shm.
func replayWAL(ctx context.Context, path string) (err error) {
	if err := fsx.Announce(fsx.OpWrite, path); err != nil {
		return err
	}
	db, err := open(ctx, path, "mode=rw&_pragma=locking_mode(exclusive)&_pragma=synchronous(off)", nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var busy, frames, checkpointed int
	if err := db.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &frames,
		&checkpointed); err != nil {
		return err
	}
	if busy != 0 || frames < 0 || frames != checkpointed {
		return fmt.Errorf(
			"%s: the WAL was not replayed whole: busy %d, %d of %d frames",
			path,
			busy,
			checkpointed,
			frames,
		)
	}
	return nil
}
