package setup

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// deployment warns of what a restore will miss on the day it is needed: how to ask
// whether AtoCore runs, how to stop and start it, and where its data really lies.
func (c *checker) deployment() {
	a, r := c.cfg.AtoCore, c.cfg.Restore
	if a.HealthURL == "" {
		c.warn("atocore.health_url", "it is not set: a restore cannot ask whether AtoCore still runs")
	}
	if len(r.StopCommand)+len(r.StartCommand) == 0 {
		c.warn("restore.stop_command", "it is not set, and neither is start_command: restore --manage-service and "+
			"drill --live need both")
	}
	for _, command := range []struct {
		key   string
		words []string
	}{{"restore.stop_command", r.StopCommand}, {"restore.start_command", r.StartCommand}} {
		for _, file := range composeFiles(command.words) {
			c.composeFile(command.key, file)
		}
	}
	for _, place := range []struct{ key, path string }{
		{"atocore.db_path", a.DBPath}, {"atocore.registry_path", a.RegistryPath}, {"atocore.chroma_path", a.ChromaPath},
	} {
		if strings.HasPrefix(place.path, dockerVolumes) {
			c.warn(place.key, "%s is in Docker's own volumes, which the unit does not let the service see: bind-mount "+
				"a directory of yours instead", place.path)
		}
	}
	c.foreign()
}

// dockerVolumes is where Docker keeps what a compose file names and does not
// mount from a directory.
const dockerVolumes = "/var/lib/docker/volumes/"

// composeFiles returns the files that a docker compose command names with -f.
func composeFiles(words []string) (files []string) {
	for i, word := range words {
		switch {
		case (word == "-f" || word == "--file") && i+1 < len(words):
			files = append(files, words[i+1])
		case strings.HasPrefix(word, "--file="):
			files = append(files, strings.TrimPrefix(word, "--file="))
		}
	}
	return files
}

// namedVolume is a mount of a compose file that is not of a directory: its source
// has no slash.
var namedVolume = regexp.MustCompile(`(?m)^\s+-\s+["']?([A-Za-z0-9][\w.-]*):/`)

// composeFile checks that a compose file is there and keeps AtoCore's data in
// directories, where this program can find it.
func (c *checker) composeFile(key, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		c.warn(key, "%v: the command will fail", err)
		return
	}
	for _, mount := range namedVolume.FindAllSubmatch(text, -1) {
		c.warn(key, "%s mounts the named volume %s: what is backed up are the directories of [atocore]; see that "+
			"AtoCore's data is in none but those", file, mount[1])
	}
}

// foreign warns of snapshots that nobody trusted owns, as after a migration: they
// count for nothing until they are taken over.
func (c *checker) foreign() {
	dir := filepath.Join(c.cfg.Backup.Dir, "snapshots")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // not made yet, or said elsewhere
	}
	owners := tree.Trusted(c.cfg.StateDir)
	foreign := slices.DeleteFunc(entries, func(entry os.DirEntry) bool {
		info, err := entry.Info()
		if err != nil {
			return true // it has just gone
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		return !ok || owners.Has(int(stat.Uid))
	})
	if len(foreign) > 0 && c.cfg.Backup.AtoCoreGroup == "" {
		c.warn("backup.dir", "%d of the snapshots in %s belong to another user, e.g. %s: they count for nothing until "+
			"they are yours: chown -R %s: %s", len(foreign), dir, foreign[0].Name(), serviceUser, dir)
	}
}
