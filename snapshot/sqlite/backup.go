package sqlite

import (
	"context"
	"errors"
	"io/fs"
	"time"

	driver "modernc.org/sqlite"

	"github.com/atocore/atobackupd/internal/fsx"
)

// BackupOneStep copies the database src to the new file dst by SQLite's online
// backup, waiting up to busy for a read lock. It holds one read transaction
// from beginning to end, so it never starts over when others write: writers in
// rollback-journal mode wait for it. dst becomes one fsynced file with src's
// permissions and journal mode, byte for byte the source's where that has no WAL; the
// caller makes its name durable. A failed backup leaves nothing.
//
// It opens src through SQLite alone, on a connection of its own, so it is safe
// while this process holds locks on src by other connections, up to the write
// lock of BEGIN IMMEDIATE: SQLite's connections in one process know of each
// other's locks. (A backup from the very connection that holds a write lock is
// refused by SQLite as busy.) What it copies is the last committed state.
//
// Cancelling ctx ends it within backupPages pages. A WAL database may get -wal
// and -shm files of this process's user beside it: Copy is for those.
func BackupOneStep(ctx context.Context, src Live, dst string, busy time.Duration) (err error) {
	release, err := src.hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	info, err := src.Dir.Lstat(src.Name)
	if err != nil {
		return unreadable(src.Path(), err)
	}
	p, err := takePin(ctx, src, busy)
	if err != nil {
		return fail(src.Path(), 0, err, "")
	}
	defer p.release()
	d, err := createTempCopy(dst, fs.FileMode(info.Mode).Perm())
	if err != nil {
		return err
	}
	defer d.discardUnless(&err)
	return copier{}.backupTo(ctx, p, d)
}

// backupPages is how much is copied between two looks at the context. The
// steps are one for every writer, because the pin is held across them.
const backupPages = 1024

// backupTo fills a draft from a pinned database.
func (c copier) backupTo(ctx context.Context, p *pin, d *tempCopy) error {
	// The draft is private and worth nothing before its fsync: no journal.
	name, err := dataSource(d.path, "mode=rw&_pragma=synchronous(off)&_pragma=journal_mode(off)")
	if err != nil {
		return err
	}
	if err := fsx.Announce(fsx.OpWrite, d.path); err != nil {
		return err
	}
	if err := d.file.Truncate(0); err != nil { // after a fallback
		return err
	}
	err = p.conn.Raw(func(conn any) error {
		backup, err := conn.(interface {
			NewBackup(string) (*driver.Backup, error)
		}).NewBackup(name)
		if err != nil {
			return err
		}
		for more := true; more && err == nil; {
			if err = ctx.Err(); err == nil {
				more, err = backup.Step(backupPages)
			}
		}
		return errors.Join(err, backup.Finish())
	})
	var page []byte
	if err == nil {
		err = p.conn.QueryRowContext(ctx, "SELECT data FROM sqlite_dbpage WHERE pgno = 1").Scan(&page)
	}
	p.release()
	if err == nil {
		err = d.takeCounters(page)
	}
	if err != nil {
		return err
	}
	return d.finish()
}

// takeCounters takes over from the source's first page those fields of the header that
// SQLite's backup writes anew in its target: the file change counter, the schema cookie, and for which
// counter the version is valid (https://www.sqlite.org/fileformat2.html, 1.3). With
// them the copy is the same file as the source, and can share its blocks with other
// copies of it.
func (d *tempCopy) takeCounters(page []byte) error {
	if len(page) < len(header{}) {
		return nil // an empty database has no page
	}
	for _, field := range [][2]int64{{24, 28}, {40, 44}, {92, 100}} {
		if _, err := d.file.WriteAt(page[field[0]:field[1]], field[0]); err != nil {
			return err
		}
	}
	return nil
}
