package daemon

import "github.com/atocore/atobackupd/restore"

// refusePending refuses work while an interrupted restore waits for a decision:
// a snapshot of a store that is half old and half new would be worse than none.
func (a *App) refusePending() error { return restore.RefusePending(a.Config.Backup.Dir) }
