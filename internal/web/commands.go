package web

import (
	"strings"

	"github.com/atocore/atobackupd/internal/escape"
	"github.com/atocore/atobackupd/snapshot"
)

// step is one command that is shown to be copied, and why one would run it.
type step struct {
	Why     string
	Command string
}

// command writes a command line of atobackupd for this installation.
func (c Commands) command(words ...string) string {
	line := "sudo atobackupd"
	if c.ConfigPath != "" {
		line += " --config " + escape.ShellWord(c.ConfigPath)
	}
	for _, word := range words {
		line += " " + escape.ShellWord(word)
	}
	return line
}

// typed returns a command line as it is typed here: of ours with the
// configuration, and all of them as root.
func (c Commands) typed(line string) string {
	if line == "" {
		return ""
	}
	if rest, ours := strings.CutPrefix(line, "atobackupd "); ours {
		return c.command() + " " + rest
	}
	return "sudo " + line
}

// restoreHere returns the commands that put a snapshot of this machine back.
func (c Commands) restoreHere(stamp snapshot.Stamp) []step {
	steps := []step{{"See what it would do; nothing is touched",
		c.command("restore", string(stamp), c.consent(), "--dry-run")}}
	return append(steps, c.carriedOut("restore", string(stamp), c.consent())...)
}

// restoreFrom returns the commands that put a snapshot of a target back.
func (c Commands) restoreFrom(target string, stamp snapshot.Stamp) []step {
	words := []string{"restore", string(stamp), "--from", target, "--identity", "/media/key/identity.txt", c.consent()}
	steps := []step{{"See what it would do; nothing is touched", c.command(append(words, "--dry-run")...)}}
	return append(steps, c.carriedOut(words...)...)
}

// consent is the flag without which restore refuses.
func (c Commands) consent() string {
	if c.ManageService {
		return "--manage-service"
	}
	return "--confirm-service-stopped"
}

// carriedOut puts the stop and start of the service around a restore that does
// not see to them itself.
func (c Commands) carriedOut(words ...string) []step {
	restore := step{"Put it back; what is live now is saved first", c.command(words...)}
	if c.ManageService {
		restore.Why = "Stop AtoCore, put the snapshot back, start, check; what is live now is saved first"
		return []step{restore}
	}
	return []step{{"Stop AtoCore", c.StopService}, restore, {"Start AtoCore", c.StartService}}
}
