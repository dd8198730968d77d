package restore

import (
	"errors"
	"path/filepath"
	"strings"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/snapshot"
)

// errDamagedJournal is of a journal that no longer says what was under way. No restore
// leaves one: each is written whole under another name first.
var errDamagedJournal = errors.New("it is damaged")

// setJournalAside is the way out where the journal is damaged, so that nothing can be
// finished or put back by it: it is renamed, nothing live is touched, and what lies
// beside the live files is named. It reports whether the journal was damaged.
func (o ResumeOptions) setJournalAside(res *Result) (damaged bool, err error) {
	_, err = o.place().Pending()
	var about *failure.Error
	if !errors.Is(err, errDamagedJournal) || !errors.As(err, &about) {
		return false, nil // told where it is read again
	}
	dir, err := tree.Open(filepath.Dir(about.Subject), tree.Trusted(o.StateDir))
	if err != nil {
		return true, err
	}
	defer dir.Close()
	aside := JournalFile + ".damaged-" + string(snapshot.StampOf(time.Now()))
	if err := dir.RenameDurably(JournalFile, dir, aside, tree.NoReplace); err != nil {
		return true, err
	}
	res.Warnings = append(res.Warnings,
		"the journal was damaged, and is "+dir.Name(aside)+" now; nothing live was touched")
	left, err := leftBeside(o.Live, tree.Trusted(o.StateDir))
	for _, path := range left {
		res.Warnings = append(res.Warnings,
			path+" was left by a restore: it may hold what was live before; look at it, then remove it")
	}
	res.Warnings = append(res.Warnings,
		"whether the live store is whole is not known: look at it, or restore a snapshot")
	return true, err
}

// leftBeside returns what restores have left beside the live files.
func leftBeside(live Live, owners tree.Owners) (left []string, err error) {
	seen := map[string]bool{"": true}
	for _, path := range []string{parent(live.DB), parent(live.Registry), live.Chroma, parent(live.Chroma)} {
		if seen[path] {
			continue
		}
		seen[path] = true
		dir, openErr := tree.Open(path, owners)
		if openErr != nil {
			if !fsx.IsMissing(openErr) {
				err = errors.Join(err, openErr)
			}
			continue
		}
		for name, listErr := range dir.Names() {
			err = errors.Join(err, listErr)
			if strings.HasPrefix(name, workPrefix) {
				left = append(left, dir.Name(name))
			}
		}
		err = errors.Join(err, dir.Close())
	}
	return left, err
}

// parent is the directory of a path, and "" where there is none.
func parent(path string) string {
	if path == "" {
		return ""
	}
	return filepath.Dir(path)
}
