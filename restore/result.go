package restore

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/snapshot"
)

// Result tells what a restore did. The three Restored fields speak of what is
// live now: after a roll-back, or when everything was put back, they are false.
type Result struct {
	Stamp               string   `json:"stamp"`
	Source              string   `json:"source"`
	PreRestoreSnapshot  string   `json:"pre_restore_snapshot"` // "" when none was taken
	DBRestored          bool     `json:"db_restored"`
	RegistryRestored    bool     `json:"registry_restored"`
	ChromaRestored      bool     `json:"chroma_restored"`
	RestoredIntegrityOK bool     `json:"restored_integrity_ok"`
	RolledBack          bool     `json:"rolled_back"`
	Warnings            []string `json:"warnings"`
	Errors              []string `json:"errors"`
	DurationMS          int64    `json:"duration_ms"`

	// PreRestoreInvalid reports that the pre-restore snapshot lacks something, so
	// that going back to it takes --allow-invalid.
	PreRestoreInvalid bool `json:"-"`
}

func newResult(stamp, source string) Result {
	return Result{Stamp: stamp, Source: source, Warnings: []string{}, Errors: []string{}}
}

// close completes a result on the way out.
func (r *Result) close(start time.Time, err error) {
	r.DurationMS = time.Since(start).Milliseconds()
	if err != nil {
		r.Errors = append(r.Errors, err.Error())
	}
}

// restored sets the flag of an artifact.
func (r *Result) restored(artifact string, yes bool) {
	switch artifact {
	case snapshot.DB:
		r.DBRestored = yes
	case snapshot.Registry:
		r.RegistryRestored = yes
	case snapshot.Chroma:
		r.ChromaRestored = yes
	}
}

func (r *Result) nothingRestored() {
	r.DBRestored, r.RegistryRestored, r.ChromaRestored, r.RestoredIntegrityOK = false, false, false, false
}

// WayBack returns the command that restores what was live before; "" where no
// pre-restore snapshot was taken. how is --confirm-service-stopped or
// --manage-service.
func (r *Result) WayBack(how string) string {
	if r.PreRestoreSnapshot == "" {
		return ""
	}
	command := "atobackupd restore " + r.PreRestoreSnapshot + " " + how + " --no-pre-snapshot"
	if r.PreRestoreInvalid {
		command += " --allow-invalid"
	}
	return command
}

// clip shortens a list of findings for one line.
func clip(findings []string) string {
	if len(findings) > 3 {
		return strings.Join(findings[:3], "; ") + fmt.Sprintf("; and %d more", len(findings)-3)
	}
	return strings.Join(findings, "; ")
}

func kindOf(err error) failure.Kind {
	if isNoSpace(err) {
		return failure.NoSpace
	}
	return failure.KindOf(err)
}

func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || failure.KindOf(err) == failure.NoSpace
}
