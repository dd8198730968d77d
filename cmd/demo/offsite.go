package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/atocore/atobackupd/cmd/demo/sftpserver"
	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/snapshot"
)

// makeKeys makes the pair that reads the vault and the one that logs in. Only
// the public half of the first is ever used by the host.
func (s *story) makeKeys(ctx context.Context) error {
	s.identity = s.path("drawer-key.txt")
	recipient, err := crypt.WriteIdentity(s.identity)
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.path("recipients.txt"), []byte(recipient+"\n"), 0o644); err != nil {
		return err
	}
	s.say("snapshots leave encrypted to %s…;", recipient[:16])
	s.more("the secret half is for a drawer: the host cannot read what it ships")
	return nil
}

// startSecondMachine starts the laptop's SSH server and opens the installation.
func (s *story) startSecondMachine(ctx context.Context) error {
	login, err := crypt.GenerateSSHKey(s.path("id_ed25519"), "atobackupd demo")
	if err != nil {
		return err
	}
	server, err := sftpserver.Start(ctx, s.path("laptop"), login)
	if err != nil {
		return err
	}
	s.onEnd(func() { server.Close() })
	if err := os.WriteFile(s.path("known_hosts"), []byte(server.KnownHostsLine()), 0o644); err != nil {
		return err
	}
	text := fmt.Sprintf(configText, s.dir, server.Addr().Port)
	if err := fsx.WriteFile(s.path("config.toml"), []byte(text), 0o600); err != nil {
		return err
	}
	cfg, err := config.Load(s.path("config.toml"))
	if err != nil {
		return err
	}
	if s.app, err = app.Open(ctx, cfg, app.Options{Version: "demo", LockTimeout: time.Minute}); err != nil {
		return err
	}
	s.onEnd(func() { s.app.Close() })
	s.say("an SSH server on %s plays the laptop, its host key known;", server.Addr())
	s.more("it knows no request to flush, and flushes each file when it is closed")
	return nil
}

const configText = `state_dir = "%[1]s/state"
[atocore]
db_path = "%[1]s/live/db/atocore.db"
registry_path = "%[1]s/live/config/project-registry.json"
chroma_path = "%[1]s/live/chroma"
required_tables = ["memories", "source_documents"]
[backup]
dir = "%[1]s/backups"
min_free = "16MiB"
[encryption]
recipients_file = "%[1]s/recipients.txt"
[[offsite]]
name = "laptop"
hosts = ["127.0.0.1"]
port = %[2]d
user = "atobackup"
identity_file = "%[1]s/id_ed25519"
known_hosts = "%[1]s/known_hosts"
path = "/vault"
prune = false
[http]
listen = ""
`

// historyDays is how long the story pretends to have been going on.
const historyDays = 190

// pruneHistory back-dates copies of the two snapshots over half a year, daily
// ones and full ones on Sundays, and lets retention thin them out.
func (s *story) pruneHistory(ctx context.Context) error {
	now := time.Now().UTC()
	for day := 1; day <= historyDays; day++ {
		at := time.Date(now.Year(), now.Month(), now.Day()-day, 6, 0, 0, 0, time.UTC)
		from := s.daily
		if at.Weekday() == time.Sunday {
			from = s.weekly
		}
		if err := s.backdate(from.Path, snapshot.StampOf(at)); err != nil {
			return err
		}
	}
	plan, err := s.app.Prune(ctx, now, false, true)
	if err != nil {
		return err
	}
	days := make(map[string][]string)
	for _, v := range plan.Decision.Keep() {
		for _, slot := range v.Slots {
			days[slot.Tier] = append([]string{slot.Day[5:]}, days[slot.Tier]...)
		}
	}
	s.say("%d snapshots, one a day; prune keeps %d and deletes %d:", historyDays+2, len(plan.Keep), len(plan.Deleted))
	for _, tier := range []string{"daily", "weekly", "monthly"} {
		s.more("%-8s%s", tier, strings.Join(days[tier], " "))
	}
	if len(days["daily"]) != 7 || len(days["weekly"]) != 4 || len(days["monthly"]) != 6 {
		return fmt.Errorf("expected 7, 4 and 6, got %v", days)
	}
	return nil
}

// backdate makes a hard-linked copy of a snapshot under an older stamp.
func (s *story) backdate(from string, stamp snapshot.Stamp) error {
	manifest, err := snapshot.ReadManifest(from)
	if err != nil {
		return err
	}
	dest := filepath.Join(filepath.Dir(from), string(stamp))
	if err := os.Mkdir(dest, 0o750); err != nil {
		return err
	}
	for _, f := range manifest.Files {
		target := filepath.Join(dest, filepath.FromSlash(f.Path))
		if f.Type == snapshot.TypeDir {
			err = os.MkdirAll(target, 0o750)
		} else if err = os.MkdirAll(filepath.Dir(target), 0o750); err == nil {
			err = os.Link(filepath.Join(from, filepath.FromSlash(f.Path)), target)
		}
		if err != nil {
			return err
		}
	}
	manifest.Stamp, manifest.StartedAt, manifest.FinishedAt = stamp, stamp.Time(), stamp.Time()
	data, err := json.Marshal(manifest)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dest, snapshot.ManifestFile), data, 0o640)
}

// ship brings everything that is kept to the second machine.
func (s *story) ship(ctx context.Context) error {
	start := time.Now()
	docs, err := s.app.Sync(ctx, "", false)
	if err != nil {
		return err
	}
	var bytes int64
	packs := 0
	for _, p := range docs[0].Pushed {
		bytes += p.Bytes
		packs += p.Packs
	}
	s.say("%d snapshots are on the laptop: %s sealed in %d packs, in %.1f s", len(docs[0].Pushed), size(bytes), packs,
		time.Since(start).Seconds())
	clear, err := findClearText(s.path("laptop"))
	if err != nil {
		return err
	}
	if clear != "" {
		return errors.New("clear text arrived there in " + clear)
	}
	s.more("searched there for words of the database in the clear: none")
	return nil
}

// findClearText looks for what the database is full of in every file.
func findClearText(dir string) (found string, err error) {
	err = filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err == nil && (strings.Contains(string(data), "interferometer") ||
			strings.Contains(string(data), "SQLite format 3")) {
			found = path
		}
		return err
	})
	return found, err
}
