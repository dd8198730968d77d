package daemon

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/scheduler"
	"github.com/atocore/atobackupd/snapshot"
)

const (
	hour = time.Hour
	day  = 24 * time.Hour
)

// states are what has been lied about, or could be.
var states = []state{
	// What is stored here.
	{name: "a byte flips and a scrub finds it", want: "critical damaged", text: "checksum_mismatch",
		make: func(w *world) { w.flipDB(); w.mustFail(w.scrub()) },
		end:  func(w *world) { w.flipDB(); w.must(w.scrub()) }},
	{name: "a byte flips and a validation finds it", want: "critical damaged", text: "checksum_mismatch",
		make: func(w *world) { w.take(snapshot.Daily); w.flipDB(); w.validate() },
		end:  func(w *world) { w.flipDB(); w.validate() }},
	{name: "a byte flips and a drill finds it", want: "critical damaged", text: "checksum_mismatch",
		make: func(w *world) { w.flipDB(); w.mustFail(w.drill()) },
		end:  func(w *world) { w.flipDB(); w.validate(); w.must(w.drill()) }},
	{name: "a byte flips and a push finds it", want: "critical damaged", text: "checksum_mismatch",
		make: func(w *world) {
			w.change("INSERT INTO t VALUES (2)") // else nothing is read to be sent
			w.take(snapshot.Daily)
			w.flipDB()
			w.mustFail(w.tryShip())
		},
		end: func(w *world) { w.flipDB(); w.validate(); w.ship() }},
	{name: "another copy rots when people know of the first", want: "critical damaged", text: "checksum_mismatch",
		make: func(w *world) {
			w.flipDB()
			w.validate()
			if told := w.look(); len(told) != 1 {
				w.t.Errorf("of the first people are told %q", told)
			}
			w.change("INSERT INTO t VALUES (2)")
			w.take(snapshot.Daily)
			w.flipDB()
			w.validate()
		},
		end: func(w *world) {
			w.flipDB()
			w.validate()
			if told := w.look(); strings.Contains(strings.Join(told, ""), "RECOVERED damaged") {
				w.t.Errorf("one is left, and people are told %q", told)
			}
			first := w.snapshots()[0]
			w.flip(first + "/" + snapshot.DBFile)
			w.must(w.validateOnly(first))
		}},
	{name: "a scrub of the others leaves damage as it is", want: "critical damaged", text: "checksum_mismatch",
		make: func(w *world) {
			w.flipDB()
			w.validate()
			w.take(snapshot.Daily)
			w.must(w.validateOnly(w.newest()))
		}},
	{name: "damage survives the loss of the history", want: "critical damaged", text: "checksum_mismatch",
		make: func(w *world) {
			w.flipDB()
			w.mustFail(w.scrub())
			w.restart(func() { w.must(os.Remove(w.path("state/history.db"))) })
		},
		end: func(w *world) { w.flipDB(); w.settle() }},
	{name: "the findings cannot be read", want: "critical damaged", text: "findings.json",
		make: func(w *world) { w.write("backups/findings.json", "{") },
		end:  func(w *world) { w.must(os.Remove(w.path("backups/findings.json"))) }},
	{name: "a manifest is garbage", want: "critical damaged", text: "metadata_invalid_json",
		settles: true,
		make:    func(w *world) { w.take(snapshot.Daily); w.rewrite(w.newest()+"/atobackupd.json", "{") },
		end: func(w *world) {
			w.good = w.newest()
			w.must(os.RemoveAll(w.good))
			w.acceptGone(w.good)
		}},
	{name: "a manifest is empty", want: "critical damaged", text: "metadata_invalid_json",
		settles: true,
		make:    func(w *world) { w.take(snapshot.Daily); w.rewrite(w.newest()+"/atobackupd.json", "") },
		end: func(w *world) {
			w.good = w.newest()
			w.must(os.RemoveAll(w.good))
			w.acceptGone(w.good)
		}},
	{name: "the database of a snapshot is gone", want: "critical damaged", text: "file_missing",
		make: func(w *world) {
			w.take(snapshot.Daily)
			w.must(os.Rename(w.newest()+"/"+snapshot.DBFile, w.path("kept")))
		},
		end: func(w *world) { w.must(os.Rename(w.path("kept"), w.newest()+"/"+snapshot.DBFile)) }},
	{name: "the database of a snapshot is cut short", want: "critical damaged", text: "size",
		make: func(w *world) {
			w.take(snapshot.Daily)
			w.must(os.Rename(w.newest()+"/"+snapshot.DBFile, w.path("kept")))
			w.rewrite(w.newest()+"/"+snapshot.DBFile, "SQLite format 3")
		},
		end: func(w *world) { w.must(os.Rename(w.path("kept"), w.newest()+"/"+snapshot.DBFile)) }},
	{name: "the database of a snapshot is a link", want: "critical damaged", text: "db",
		make: func(w *world) {
			w.take(snapshot.Daily)
			w.must(os.Rename(w.newest()+"/"+snapshot.DBFile, w.path("kept")))
			w.must(os.Symlink(w.path("kept"), w.newest()+"/"+snapshot.DBFile))
		},
		end: func(w *world) { w.must(os.Rename(w.path("kept"), w.newest()+"/"+snapshot.DBFile)) }},
	{name: "the vector store of a snapshot is gone", want: "critical damaged", text: "chroma",
		make: func(w *world) { w.must(os.Rename(w.newest()+"/chroma", w.path("kept"))) },
		end:  func(w *world) { w.must(os.Rename(w.path("kept"), w.newest()+"/chroma")) }},
	{name: "the directory of the snapshots is a link", want: "critical snapshot", text: "is a symbolic link",
		make: func(w *world) {
			w.must(os.Rename(w.path("backups/snapshots"), w.path("kept")))
			w.must(os.Symlink(w.path("kept"), w.path("backups/snapshots")))
		},
		end: func(w *world) {
			w.must(os.Remove(w.path("backups/snapshots")))
			w.must(os.Rename(w.path("kept"), w.path("backups/snapshots")))
		}},
	{name: "the directory of what is being made is a link", want: "critical snapshot", text: "is a symbolic link",
		make: func(w *world) {
			w.must(os.Rename(w.path("backups/staging"), w.path("kept")))
			w.must(os.Symlink(w.path("kept"), w.path("backups/staging")))
		},
		end: func(w *world) {
			w.must(os.Remove(w.path("backups/staging")))
			w.must(os.Rename(w.path("kept"), w.path("backups/staging")))
		}},
	{name: "a snapshot is a file", want: "critical damaged", text: "no directory",
		make: func(w *world) {
			w.take(snapshot.Daily)
			w.rewrite(w.path("backups/snapshots/20000109T000000Z"), "x")
		},
		end: func(w *world) { w.removeAll("backups/snapshots/20000109*") }},
	{name: "a file takes the place of a snapshot", want: "critical damaged", text: "no directory",
		make: func(w *world) {
			w.good = w.newest()
			w.take(snapshot.Weekly)
			w.must(os.Rename(w.good, w.path("kept")))
			w.rewrite(w.good, "x")
		},
		end: func(w *world) { w.must(os.Remove(w.good)); w.must(os.Rename(w.path("kept"), w.good)) }},
	{name: "a snapshot is a link to nowhere", want: "critical damaged", text: "no directory",
		make: func(w *world) { w.must(os.Symlink("/nowhere", w.path("backups/snapshots/20000109T000000Z"))) },
		end:  func(w *world) { w.removeAll("backups/snapshots/20000109*") }},
	{name: "the directory of the snapshots is gone", want: "critical snapshot", text: "no valid snapshot",
		make: func(w *world) { w.move("backups/snapshots", "kept") },
		end:  func(w *world) { w.move("kept", "backups/snapshots") }},
	{name: "the findings are a directory", want: "critical damaged", text: "findings.json",
		make: func(w *world) { w.must(os.Mkdir(w.path("backups/findings.json"), 0o700)) },
		end:  func(w *world) { w.must(os.Remove(w.path("backups/findings.json"))) }},
	{name: "pipes lie where documents were", want: "critical damaged", text: "not a regular file", // nobody waits for them
		make: func(w *world) {
			for _, name := range []string{"backups/findings.json", "state/published.json", "state/targets/disk/state.json",
				"state/running-scrub.json", "backups/.second-daemon.json"} {
				_ = os.Rename(w.path(name), w.path(name+".away")) // not each is there
				w.must(syscall.Mkfifo(w.path(name), 0o600))
			}
		},
		end: func(w *world) {
			for _, name := range []string{"backups/findings.json", "state/published.json", "state/targets/disk/state.json",
				"state/running-scrub.json", "backups/.second-daemon.json"} {
				w.must(os.Remove(w.path(name)))
				_ = os.Rename(w.path(name+".away"), w.path(name))
			}
		}},
	{name: "all snapshots are gone", want: "critical snapshot", text: "no valid snapshot any more",
		make: func(w *world) { w.removeAll("backups/snapshots/*") },
		end:  func(w *world) { w.acceptDir(); w.take(snapshot.Weekly) }},
	{name: "the only full snapshot is gone", want: "critical full", text: "no valid snapshot any more",
		make: func(w *world) { w.good = w.newest(); w.take(snapshot.Daily); w.must(os.RemoveAll(w.good)) },
		end:  func(w *world) { w.acceptGone(w.good); w.take(snapshot.Weekly) }},
	{name: "one of several snapshots is gone", want: "critical damaged", text: "disk has it", settles: true,
		make: func(w *world) { w.good = w.newest(); w.take(snapshot.Weekly); w.must(os.RemoveAll(w.good)) },
		end:  func(w *world) { w.acceptGone(w.good) }},
	{name: "a snapshot that a vault has is gone", want: "critical damaged", text: "disk has it",
		make: func(w *world) {
			w.good = w.newest()
			w.take(snapshot.Weekly)
			w.must(os.RemoveAll(w.good))
			w.advises("atobackupd scrub --repair " + filepath.Base(w.good) + " --from disk --identity FILE --confirm")
		},
		end: func(w *world) { w.bringBack(w.good) }},
	{name: "an empty directory takes the place of a snapshot", want: "critical damaged", text: "it is gone",
		make: func(w *world) {
			w.good = w.newest()
			w.take(snapshot.Weekly)
			w.must(os.RemoveAll(w.good))
			w.must(os.Mkdir(w.good, 0o755))
			w.advises("atobackupd scrub --repair " + filepath.Base(w.good) + " --from disk --identity FILE --confirm")
		},
		end: func(w *world) { w.bringBack(w.good) }},
	{name: "the list of snapshots is lost", want: "critical damaged", text: "published.json",
		make: func(w *world) {
			w.removeAll("state/published.json")
			w.take(snapshot.Daily)
			w.restart(func() {})
			w.advises("atobackupd list")
		},
		end: func(w *world) { w.acceptDir() }},
	{name: "the list of snapshots is empty", want: "critical damaged", text: "published.json",
		make: func(w *world) { w.write("state/published.json", ""); w.advises("atobackupd list") },
		end:  func(w *world) { w.acceptDir() }},
	{name: "a snapshot is gone and the list of snapshots with it", want: "critical damaged", text: "published.json",
		make: func(w *world) {
			w.good = w.newest()
			w.take(snapshot.Weekly)
			w.must(os.RemoveAll(w.good))
			w.removeAll("state/published.json")
		},
		end: func(w *world) { w.acceptDir() }},
	{name: "nobody can say whether Chroma is whole", want: "warning unverified", text: "not recognised",
		make: func(w *world) { w.unknownChroma(); w.accept(); w.advises("atobackupd validate ") },
		end:  func(w *world) { w.knownChroma() }},
	{name: "a snapshot is away and comes back", want: "critical damaged", text: "no other copy of it is known",
		make: func(w *world) {
			w.take(snapshot.Weekly)
			w.good = w.newest()
			w.must(os.Rename(w.good, w.path("away")))
		},
		end: func(w *world) { w.must(os.Rename(w.path("away"), w.good)) }},
	{name: "several snapshots are gone and the history too", want: "critical damaged", text: "it is gone",
		settles: true,
		make: func(w *world) {
			for range 3 {
				w.take(snapshot.Weekly)
			}
			w.restart(func() {
				all := w.snapshots()
				for _, dir := range all[:len(all)-1] {
					w.must(os.RemoveAll(dir))
				}
				w.removeAll("state/history.db*")
			})
			w.advises("atobackupd scrub --repair ") // the vault has the oldest
		},
		end: func(w *world) { w.acceptDir(); w.settle() }},
	{name: "the disk of the backups is away and the history lost", want: "critical mount",
		text: ".atobackupd-dir is missing",
		make: func(w *world) {
			w.restart(func() {
				w.removeAll("state/history.db*")
				w.move("backups", "away")
				w.must(os.Mkdir(w.path("backups"), 0o755))
			})
		},
		end: func(w *world) {
			w.restart(func() { w.must(os.Remove(w.path("backups"))); w.move("away", "backups") })
			w.settle()
		}},
	{name: "nothing is left of a snapshot but its directory", want: "critical damaged", text: "it is gone",
		make: func(w *world) {
			w.good = w.newest()
			w.take(snapshot.Weekly)
			w.must(os.Mkdir(w.path("kept"), 0o700))
			w.each("backups/snapshots/"+filepath.Base(w.good)+"/*", func(path string) {
				w.must(os.Rename(path, w.path("kept/"+filepath.Base(path))))
			})
		},
		end: func(w *world) {
			w.each("kept/*", func(path string) { w.must(os.Rename(path, w.good+"/"+filepath.Base(path))) })
		}},
	{name: "a snapshot has lost its manifest", want: "critical damaged", text: "atobackupd.json is gone",
		make: func(w *world) {
			w.good = w.newest()
			w.take(snapshot.Weekly)
			w.must(os.Rename(w.good+"/"+snapshot.ManifestFile, w.path("kept")))
		},
		end: func(w *world) { w.must(os.Rename(w.path("kept"), w.good+"/"+snapshot.ManifestFile)) }},
	{name: "a snapshot of ours was given away", want: "critical damaged", text: "belongs to somebody else",
		make: func(w *world) {
			w.good = w.newest()
			w.take(snapshot.Weekly)
			w.must(os.Chown(w.good, 1000, 1000))
			w.advises("chown -R --reference=")
		},
		end: func(w *world) { w.must(os.Chown(w.good, 0, 0)) }},
	{name: "the list of snapshots is garbage", want: "critical damaged", text: "published.json",
		make: func(w *world) {
			w.write("state/published.json", "garbage")
			w.advises("atobackupd list")
		},
		end: func(w *world) { w.acceptDir() }},
	{name: "a prune deletes a damaged snapshot", want: "critical damaged", text: "checksum_mismatch", settles: true,
		make: func(w *world) {
			w.flipDB()
			w.mustFail(w.scrub())
			w.advises("atobackupd scrub --repair " + filepath.Base(w.newest()) + " --from disk --identity FILE")
		},
		end: func(w *world) {
			w.take(snapshot.Weekly)
			w.days(7)
			w.take(snapshot.Weekly)
			w.ship()
			w.prune()
			w.must(w.scrub())
		}},
	{name: "a snapshot of which there is no other copy rots", want: "critical damaged", text: "checksum_mismatch",
		make: func(w *world) {
			w.change("INSERT INTO t VALUES (2)")
			w.take(snapshot.Daily)
			w.flipDB()
			w.mustFail(w.scrub())
			w.advises("atobackupd backup")
		},
		end: func(w *world) { w.flipDB(); w.must(w.scrub()) }},
	{name: "a file rots of which another snapshot has a copy", want: "critical damaged", text: "checksum_mismatch",
		make: func(w *world) {
			w.take(snapshot.Daily)
			w.unshare(w.newest() + "/" + snapshot.DBFile)
			w.flipDB()
			w.mustFail(w.scrub())
			w.advises("atobackupd scrub --repair")
		},
		end: func(w *world) {
			_, err := w.app.Repair(w.t.Context(), time.Now(), app.RepairRequest{Confirm: true})
			w.must(err)
		}},
	{name: "a snapshot was taken invalid before a restore", // it says so, and is no damage
		make: func(w *world) { w.copyAs("20000101T000500Z", "pre-restore", false) }},
	{name: "AtoCore made a snapshot that is broken", want: "critical damaged", text: "db_not_sqlite",
		make: func(w *world) { w.foreign("20000101T000500Z", false); w.mustFail(w.scrub()) },
		end:  func(w *world) { w.removeAll("backups/snapshots/20000101T000500Z"); w.must(w.scrub()) }},
	{name: "Chroma is not recognised", want: "critical source_shrunk", text: "not recognised",
		make: func(w *world) { w.unknownChroma() },
		end:  func(w *world) { w.knownChroma() }},

	{name: "a table is emptied and snapshots go on", want: "critical source_shrunk",
		text: "db_table_emptied: table t had 1 rows",
		make: func(w *world) {
			w.change("DELETE FROM t; CREATE TABLE u (x); INSERT INTO u VALUES (1)")
			w.take(snapshot.Daily)
			w.take(snapshot.Daily)
		},
		end: func(w *world) { w.accept() }},
	{name: "a table lost more than half of its rows", want: "critical source_shrunk", text: "db_shrunk",
		make: func(w *world) {
			w.change("WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n WHERE x < 200) INSERT INTO t " +
				"SELECT x FROM n")
			w.take(snapshot.Daily)
			w.change("DELETE FROM t WHERE x > 50")
			w.take(snapshot.Daily)
		},
		end: func(w *world) { w.accept() }},

	{name: "a required table is missing", want: "critical snapshot", text: "memories",
		make: func(w *world) {
			w.configure(func(c *config.Config) { c.AtoCore.RequiredTables = []string{"memories"} })
			w.failTake()
		},
		end: func(w *world) {
			w.configure(func(c *config.Config) { c.AtoCore.RequiredTables = nil })
			w.take(snapshot.Daily)
		}},
	{name: "the registry is half a file", want: "critical snapshot", text: "registry_invalid_json",
		make: func(w *world) {
			w.write("registry.json", `{"projects": [`)
			w.configure(func(c *config.Config) { c.AtoCore.RegistryPath = w.path("registry.json") })
			w.failTake()
		},
		end: func(w *world) { w.write("registry.json", `{"projects": []}`); w.take(snapshot.Daily) }},
	{name: "there is nowhere to make a snapshot", want: "critical snapshot", text: "staging",
		make: func(w *world) {
			w.must(os.RemoveAll(w.path("backups/staging")))
			w.write("backups/staging", "x")
			w.failTake()
		},
		end: func(w *world) {
			w.must(os.Remove(w.path("backups/staging")))
			w.must(os.Mkdir(w.path("backups/staging"), 0o700))
			w.take(snapshot.Daily)
		}},

	// Age.
	{name: "no snapshot for a day and a bit", want: "critical snapshot", text: "more than 26 hours ago",
		make: func(w *world) { w.pass(27 * hour) },
		end:  func(w *world) { w.take(snapshot.Daily); w.ship(); w.prune() }},
	{name: "no full snapshot for nine days", want: "critical full", text: "more than 8 days ago",
		make: func(w *world) { w.days(9); w.must(w.scrub()) },
		end:  func(w *world) { w.take(snapshot.Weekly) }},
	{name: "nothing was pruned although snapshots are taken", want: "critical prune", text: "more than 26 hours ago",
		make: func(w *world) { w.pass(20 * hour); w.take(snapshot.Daily); w.ship(); w.pass(10 * hour) },
		end:  func(w *world) { w.prune() }},
	{name: "a machine was off and takes a snapshot again", want: "warning prune", text: "waits for a snapshot",
		mute: true,
		make: func(w *world) { w.pass(30 * hour); w.take(snapshot.Daily); w.ship() },
		end:  func(w *world) { w.prune() }},
	{name: "nothing is shipped although snapshots are frequent", want: "critical offsite:disk",
		text: "more than 3 days ago",
		make: func(w *world) {
			for range 16 {
				w.pass(6 * hour)
				w.take(snapshot.Daily)
				w.prune()
			}
		},
		end: func(w *world) { w.ship() }},
	{name: "nothing was scrubbed for ten days", want: "critical scrub", text: "more than 9 days ago",
		make: func(w *world) { w.days(7); w.take(snapshot.Weekly); w.days(3) },
		end:  func(w *world) { w.must(w.scrub()) }},
	{name: "nothing was drilled for a hundred days", want: "warning drill", text: "more than 100 days ago",
		make: func(w *world) {
			w.pass(101 * day)
			w.take(snapshot.Weekly)
			w.ship()
			w.prune()
			w.must(w.scrub())
			w.must(w.verify())
		},
		end: func(w *world) { w.must(w.drill()) }},

	// Runs that fail.
	{name: "the database is gone", want: "critical snapshot", text: "no such file",
		make: func(w *world) { w.move("data/a.db", "data/b.db"); w.failTake() },
		end:  func(w *world) { w.move("data/b.db", "data/a.db"); w.take(snapshot.Daily) }},
	{name: "the database is garbage", want: "critical snapshot", text: "a.db",
		make: func(w *world) { w.move("data/a.db", "data/b.db"); w.write("data/a.db", "garbage"); w.failTake() },
		end:  func(w *world) { w.move("data/b.db", "data/a.db"); w.take(snapshot.Daily) }},
	{name: "a take fails and is tried again", want: "warning snapshot", text: "tried again at", mute: true,
		make: func(w *world) {
			w.move("data/a.db", "data/b.db")
			w.event(scheduler.Event{Kind: scheduler.Started, Job: "daily", Slot: scheduler.Slot{Attempt: 1}})
			w.failTake()
			w.event(scheduler.Event{Kind: scheduler.Retrying, Job: "daily", RetryAt: time.Now().Add(5 * time.Minute),
				Err: errSomething})
		},
		end: func(w *world) {
			w.move("data/b.db", "data/a.db")
			w.take(snapshot.Daily)
			w.event(scheduler.Event{Kind: scheduler.Finished, Job: "daily"})
		}},
	{name: "a retry was promised by a clock that was ahead", want: "critical snapshot", text: "no such file",
		make: func(w *world) {
			w.move("data/a.db", "data/b.db")
			w.failTake()
			w.event(scheduler.Event{Kind: scheduler.Retrying, Job: "daily", RetryAt: time.Now().Add(30 * day),
				Err: errSomething})
		},
		end: func(w *world) { w.move("data/b.db", "data/a.db"); w.take(snapshot.Daily) }},
	{name: "the retry never came", want: "critical snapshot", text: "no such file",
		make: func(w *world) {
			w.move("data/a.db", "data/b.db")
			w.failTake()
			w.event(scheduler.Event{Kind: scheduler.Retrying, Job: "daily", RetryAt: time.Now().Add(time.Minute),
				Err: errSomething})
			w.pass(12 * time.Minute)
		},
		end: func(w *world) { w.move("data/b.db", "data/a.db"); w.take(snapshot.Daily) }},
	{name: "the daemon died before the retry", want: "critical snapshot", text: "no such file",
		make: func(w *world) {
			w.move("data/a.db", "data/b.db")
			w.failTake()
			w.event(scheduler.Event{Kind: scheduler.Retrying, Job: "daily", RetryAt: time.Now().Add(time.Minute),
				Err: errSomething})
			w.restart(func() {})
		},
		end: func(w *world) { w.move("data/b.db", "data/a.db"); w.take(snapshot.Daily) }},
	{name: "a full take failed and daily ones go on", want: "critical full", text: "whole",
		make: func(w *world) {
			w.move("data/whole", "data/away")
			_, err := w.tryTake(snapshot.Weekly)
			w.mustFail(err)
			for range 70 {
				w.take(snapshot.Daily)
			}
		},
		end: func(w *world) { w.move("data/away", "data/whole"); w.take(snapshot.Weekly) }},
	{name: "a take found the lock taken by hand", // somebody is at work
		make: func(w *world) {
			lock, err := w.app.LockNow(w.t.Context(), "pruning")
			w.must(err)
			_, err = w.app.BackupNow(w.t.Context(), snapshot.Manual, false)
			w.mustFail(err)
			lock.Unlock()
		}},
	{name: "the daemon's take found the lock taken", want: "critical snapshot", text: "held by",
		make: func(w *world) {
			lock, err := w.app.LockNow(w.t.Context(), "pruning")
			w.must(err)
			w.failTake()
			lock.Unlock()
		},
		end: func(w *world) { w.take(snapshot.Daily) }},
	{name: "a take was interrupted", // it says nothing about the leg
		make: func(w *world) {
			ctx, cancel := context.WithCancel(w.t.Context())
			cancel()
			_, err := w.app.Backup(ctx, snapshot.Daily, false, time.Now())
			w.mustFail(err)
		}},
	{name: "a take ran too long", want: "critical snapshot", text: "ran too long",
		make: func(w *world) {
			ctx, cancel := context.WithCancelCause(w.t.Context())
			cancel(scheduler.ErrTimeout)
			_, err := w.app.Backup(ctx, snapshot.Daily, false, time.Now())
			w.mustFail(err)
		},
		end: func(w *world) { w.take(snapshot.Daily) }},
	{name: "a prune is held", want: "critical prune", text: "held",
		make: func(w *world) {
			w.days(14)
			w.take(snapshot.Weekly)
			w.must(w.scrub())
			w.configure(func(c *config.Config) {
				c.Retention.Daily = 1
				c.Retention.Weekly = 0
				c.Retention.MaxDeleteFraction = 0.1
			})
			time.Sleep(time.Second)
			_, err := w.app.Prune(w.t.Context(), time.Now(), false, false)
			w.mustFail(err)
		},
		end: func(w *world) { _, err := w.app.Prune(w.t.Context(), time.Now(), false, true); w.must(err) }},
	{name: "a drill's question is answered with no", want: "critical drill", text: "did not pass",
		make: func(w *world) {
			w.configure(func(c *config.Config) { c.Drill.Queries = []string{"SELECT 0"} })
			w.mustFail(w.drill())
		},
		end: func(w *world) { w.configure(func(c *config.Config) { c.Drill.Queries = nil }); w.must(w.drill()) }},
	{name: "somebody mistypes a command", // a slip of the fingers is no run
		make: func(w *world) {
			w.app.Options.Daemon = false
			_, err := w.app.LiveDrill(w.t.Context(), "")
			w.mustFail(err)
			w.app.Options.Daemon = true
		}},
	{name: "a command was killed", // it does not run for ever
		make: func(w *world) {
			w.record(`INSERT INTO runs (job, kind, stamp, started_at, outcome, error, bytes, owner) VALUES `+
				`('restore', '', '', ?, 'running', '', 0, 'a/1/2')`, time.Now().UnixMilli())
			if s, err := w.app.Status(w.t.Context(), time.Now()); err != nil || len(s.Running) != 0 {
				w.t.Errorf("it runs: %+v, %v", s.Running, err)
			}
		}},

	// Off-site.
	{name: "the disk of a target is not mounted", want: "critical offsite:disk", text: "is its disk mounted",
		make: func(w *world) { w.take(snapshot.Daily); w.move("vault", "away"); w.mustFail(w.tryShip()) },
		end:  func(w *world) { w.move("away", "vault"); w.ship() }},
	{name: "a damaged object of which nothing is left here", want: "critical damaged", text: "disk", settles: true,
		make: func(w *world) {
			w.good = w.newest()
			w.take(snapshot.Weekly)
			w.must(os.RemoveAll(w.good))
			w.acceptGone(w.good)
			w.flipPack()
			w.mustFail(w.verify())
			w.advises("atobackupd vault ls " + filepath.Base(w.good) + " --target disk --identity FILE")
		},
		end: func(w *world) { w.forget(filepath.Base(w.good)); w.ship(); w.must(w.verify()) }},
	{name: "a target with damage is taken out of the configuration", want: "critical damaged", text: "disk",
		forgets: true,
		make:    func(w *world) { w.flipPack(); w.mustFail(w.verify()); w.advises("atobackupd sync --target disk") },
		end:     func(w *world) { w.configure(func(c *config.Config) { c.Offsite = nil }) }},
	{name: "another vault lies where ours was", want: "critical offsite:disk", text: "disk",
		make: func(w *world) {
			w.take(snapshot.Daily)
			w.move("vault", "away")
			w.must(os.Mkdir(w.path("vault"), 0o755))
			w.mustFail(w.tryShip())
		},
		end: func(w *world) { w.must(os.RemoveAll(w.path("vault"))); w.move("away", "vault"); w.ship() }},
	{name: "the vault of another host lies where ours was", want: "critical offsite:disk", text: "another signing key",
		make: func(w *world) {
			w.elsewhere()
			w.take(snapshot.Daily)
			w.move("vault", "away")
			w.move("other/vault", "vault")
			w.mustFail(w.tryShip())
		},
		end: func(w *world) { w.must(os.RemoveAll(w.path("vault"))); w.move("away", "vault"); w.ship() }},
	{name: "the packs of the vault are empty and a verify finds it", want: "critical damaged", text: "disk",
		make: func(w *world) { w.emptyPacks(); w.mustFail(w.verify()); w.advises("atobackupd sync --target disk") },
		end:  func(w *world) { w.ship(); w.must(w.verify()) }},
	{name: "the packs of the vault are empty and a push finds it", want: "critical offsite:disk", text: "0 bytes of",
		make: func(w *world) {
			w.emptyPacks()
			w.change("INSERT INTO t VALUES (2)")
			w.take(snapshot.Daily)
			w.mustFail(w.tryShip()) // it sends anew what it found lost
		},
		end: func(w *world) { w.ship(); w.must(w.verify()) }},
	{name: "the vault has lost its vault.json", want: "critical offsite:disk", text: "vault",
		make: func(w *world) { w.take(snapshot.Daily); w.move("vault/vault.json", "kept"); w.mustFail(w.tryShip()) },
		end:  func(w *world) { w.move("kept", "vault/vault.json"); w.ship() }},
	{name: "the key that signs is lost", want: "critical offsite:disk", text: "lost",
		make: func(w *world) { w.take(snapshot.Daily); w.move("state/signing_key", "kept"); w.mustFail(w.tryShip()) },
		end:  func(w *world) { w.move("kept", "state/signing_key"); w.ship() }},
	{name: "a target failed and then does not answer", want: "critical offsite:disk", text: "is its disk mounted",
		make: func(w *world) {
			w.take(snapshot.Daily)
			w.move("vault", "away")
			w.mustFail(w.tryShip())
			w.must(w.app.History().LegFailed(w.t.Context(), "offsite:disk", time.Now(), "it does not answer"))
			w.record(`INSERT INTO runs (job, kind, stamp, started_at, finished_at, outcome, error, bytes, detail, owner)
				VALUES ('sync:disk', '', '', ?1, ?1, 'skipped', 'it does not answer', 0,
					'{"failure":"unreachable"}', 'a/1/2')`, time.Now().UnixMilli())
		},
		end: func(w *world) { w.move("away", "vault"); w.ship() }},
	{name: "a byte flips in a pack and a verify finds it", want: "critical damaged", text: "disk",
		make: func(w *world) { w.flipPack(); w.mustFail(w.verify()) },
		end:  func(w *world) { w.flipPack(); w.must(w.verify()) }},
	{name: "a sync mends what a verify found", want: "critical verify:disk", text: "damaged",
		make: func(w *world) { w.flipPack(); w.mustFail(w.verify()); w.ship() },
		end:  func(w *world) { w.must(w.verify()) }},
	{name: "a manifest of the vault is gone", want: "critical damaged", text: "disk",
		make: func(w *world) { w.removeAll("vault/snapshots/*.manifest.age"); w.mustFail(w.verify()) }},
	{name: "nothing was verified for forty days", want: "critical verify:disk", text: "more than 40 days ago",
		make: func(w *world) { w.pass(41 * day); w.take(snapshot.Weekly); w.ship(); w.prune(); w.must(w.scrub()) },
		end:  func(w *world) { w.must(w.verify()) }},
	{name: "the state of a target is gone", want: "critical offsite:disk", text: "what the target holds is not known",
		make: func(w *world) { w.removeAll("state/targets/disk"); w.advises("atobackupd sync --target disk") },
		end:  func(w *world) { w.ship() }},
	{name: "a file lies where the vault was", want: "critical offsite:disk", text: "not a directory",
		make: func(w *world) {
			w.take(snapshot.Daily)
			w.move("vault", "away")
			w.write("vault", "x")
			w.mustFail(w.tryShip())
			w.advises("mount -a")
			w.holds(0)
		},
		end: func(w *world) { w.must(os.Remove(w.path("vault"))); w.move("away", "vault"); w.ship(); w.holds(2) }},
	{name: "a verify finds no vault and a sync finds it again", want: "critical verify:disk", text: "is its disk mounted",
		make: func(w *world) {
			w.move("vault", "away")
			w.mustFail(w.verify())
			w.holds(0)
			w.move("away", "vault")
			w.ship()
			w.holds(1)
		},
		end: func(w *world) { w.must(w.verify()) }},
	{name: "somebody took the newest push away", want: "critical offsite:disk", text: "rolled back",
		make: func(w *world) { w.take(snapshot.Daily); w.ship(); w.forgetThere(); w.mustFail(w.tryShip()) },
		end:  func(w *world) { w.take(snapshot.Daily); w.ship() }},
	{name: "an operator forgets the newest push", // it was meant
		make: func(w *world) {
			w.take(snapshot.Daily)
			w.ship()
			w.forget(filepath.Base(w.newest()))
			w.holds(1)
			w.ship()
		}},
	{name: "the state of a target cannot be read", want: "critical offsite:disk", text: "state",
		make: func(w *world) {
			w.each("state/*/disk*/state.json", func(path string) {
				w.must(os.Rename(path, path+".away"))
				w.rewrite(path, "{")
			})
		},
		end: func(w *world) {
			w.each("state/*/disk*/state.json", func(path string) { w.must(os.Rename(path+".away", path)) })
		}},
	{name: "the file of recipients is empty", want: "critical recipients", text: "recipients",
		make: func(w *world) { w.write("recipients", ""); w.recipients() },
		end:  func(w *world) { w.configure(func(c *config.Config) { c.Encryption = w.encryption }) }},
	{name: "the file of recipients is gone", want: "critical recipients", text: "no such file",
		make: func(w *world) { w.recipients() },
		end:  func(w *world) { w.configure(func(c *config.Config) { c.Encryption = w.encryption }) }},
	{name: "a sync finds no recipients", want: "critical offsite:disk", text: "no such file",
		make: func(w *world) { w.recipients(); w.take(snapshot.Daily); w.mustFail(w.tryShip()) },
		end:  func(w *world) { w.configure(func(c *config.Config) { c.Encryption = w.encryption }); w.ship() }},
	{name: "a target that fails is taken out of the configuration", want: "critical offsite:disk",
		text: "is its disk mounted", forgets: true,
		make: func(w *world) { w.take(snapshot.Daily); w.move("vault", "away"); w.mustFail(w.tryShip()) },
		end:  func(w *world) { w.configure(func(c *config.Config) { c.Offsite = nil }) }},

	// Where it lies.
	{name: "a restore was interrupted", want: "critical restore_pending", text: "interrupted",
		make: func(w *world) { w.journal(true) },
		end:  func(w *world) { w.journal(false) }},
	{name: "the journal of a restore is garbage", want: "critical restore_pending", text: "restore",
		make: func(w *world) { w.write("state/restore-journal.json", "garbage") },
		end:  func(w *world) { w.must(os.Remove(w.path("state/restore-journal.json"))) }},
	{name: "the disk of the backups is not mounted", want: "critical mount", text: ".atobackupd-dir is missing",
		make: func(w *world) {
			w.move("backups", "away")
			w.must(os.Mkdir(w.path("backups"), 0o755))
			w.listen()
			if s, err := w.app.Status(w.t.Context(), time.Now()); err != nil || s.Space != nil ||
				strings.Contains(w.page, "free on the backup disk") {
				w.t.Errorf("what is free on another disk is told: %+v, %v", s.Space, err)
			}
		},
		end: func(w *world) { w.must(os.Remove(w.path("backups"))); w.move("away", "backups") }},
	{name: "a take finds the bare mount point", want: "critical mount", text: ".atobackupd-dir is missing",
		make: func(w *world) {
			w.move("backups", "away")
			w.must(os.Mkdir(w.path("backups"), 0o755))
			w.failTake()
			w.restart(func() {})
			if left, err := os.ReadDir(w.path("backups")); err != nil || len(left) != 0 {
				w.t.Errorf("something was written onto the bare mount point: %v, %v", left, err)
			}
		},
		end: func(w *world) {
			w.must(os.Remove(w.path("backups")))
			w.move("away", "backups")
			w.take(snapshot.Daily)
		}},
	{name: "another directory is configured for the backups", want: "critical mount", text: ".atobackupd-dir is missing",
		make: func(w *world) {
			w.good = w.readFile("config.toml")
			w.must(os.Mkdir(w.path("elsewhere"), 0o755))
			w.restart(func() {
				w.write("config.toml", strings.Replace(w.good, w.path("backups"), w.path("elsewhere"), 1))
			})
			w.failTake()
			w.advises("mount -a")
		},
		end: func(w *world) { w.restart(func() { w.write("config.toml", w.good) }); w.take(snapshot.Daily) }},
	{name: "the directory of the backups is gone", want: "critical mount", text: "backups",
		make: func(w *world) { w.move("backups", "away") },
		end:  func(w *world) { w.move("away", "backups") }},
	{name: "an operator accepts a new directory", want: "critical snapshot", text: "no valid snapshot",
		make: func(w *world) {
			w.move("backups", "away")
			w.must(os.Mkdir(w.path("backups"), 0o755))
			w.must(w.app.AcceptBackupDir(w.t.Context()))
		},
		end: func(w *world) { w.take(snapshot.Weekly) }},
	{name: "others can write into the backup directory", want: "critical shared", text: "somebody else",
		make: func(w *world) { w.must(os.Chmod(w.path("backups"), 0o777)) },
		end:  func(w *world) { w.must(os.Chmod(w.path("backups"), 0o755)) }},
	{name: "others can write among the snapshots", want: "critical shared", text: "snapshots",
		make: func(w *world) { w.must(os.Chmod(w.path("backups/snapshots"), 0o777)) },
		end:  func(w *world) { w.must(os.Chmod(w.path("backups/snapshots"), 0o755)) }},
	{name: "others can write above the backup directory", want: "critical shared", text: "somebody else",
		make: func(w *world) { w.must(os.Chmod(w.dir, 0o777)) },
		end:  func(w *world) { w.must(os.Chmod(w.dir, 0o755)) }},
	{name: "the next snapshot does not fit", want: "critical space", text: "must stay free",
		make: func(w *world) {
			w.configure(func(c *config.Config) { c.Backup.MinFree = 1 << 60 })
			w.advises("atobackupd config check")
		},
		end: func(w *world) { w.configure(func(c *config.Config) { c.Backup.MinFree = 1 << 20 }) }},
	{name: "the disk is full within two weeks", want: "warning space", text: "within 14 days",
		make: func(w *world) { w.filling(10); w.advises("du -xhd1 ") },
		end:  func(w *world) { w.record("UPDATE runs SET detail = '{}' WHERE job = 'prune'") }},
	{name: "the disk is full within three days", want: "critical space", text: "within 3 days",
		make: func(w *world) { w.filling(2) },
		end:  func(w *world) { w.record("UPDATE runs SET detail = '{}' WHERE job = 'prune'") }},

	// What is remembered.
	{name: "the history is garbage", want: "critical history", text: "started over",
		make: func(w *world) {
			w.restart(func() { w.rewrite(w.path("state/history.db"), "garbage, and no database") })
		},
		end: func(w *world) { w.settle() }},
	{name: "the history is gone at a start", want: "critical history", text: "started over",
		make: func(w *world) { w.restart(func() { w.must(os.Remove(w.path("state/history.db"))) }) },
		end:  func(w *world) { w.settle() }},
	{name: "the history is removed under the daemon", want: "critical history", text: "history.db",
		make: func(w *world) { w.must(os.Rename(w.path("state/history.db"), w.path("state/away"))) },
		end: func(w *world) {
			w.must(os.Rename(w.path("state/away"), w.path("state/history.db")))
			_, _ = w.app.Facts(w.t.Context(), time.Now()) // the daemon goes on in it
			w.unrecorded()
		}},
	{name: "the history is emptied before a start", want: "critical history", text: "started over",
		make: func(w *world) { w.restart(func() { w.must(os.Truncate(w.path("state/history.db"), 0)) }) },
		end:  func(w *world) { w.settle() }},
	{name: "the history is emptied under the daemon", want: "critical history", text: "history.db",
		make: func(w *world) {
			w.must(os.Truncate(w.path("state/history.db"), 0))
			w.advises("atobackupd scrub --all")
		},
		end: func(w *world) { w.settle() }},
	{name: "the history is replaced under the daemon", want: "critical history", text: "history.db",
		make: func(w *world) {
			w.must(os.Rename(w.path("state/history.db"), w.path("state/away")))
			w.must(os.WriteFile(w.path("state/history.db"), []byte("garbage, and no database"), 0o600))
		},
		end: func(w *world) { w.settle() }},
	{name: "the history of another machine is copied here", want: "critical history", text: "another backup directory",
		make: func(w *world) {
			w.elsewhere()
			w.restart(func() { w.must(os.Rename(w.path("other/state/history.db"), w.path("state/history.db"))) })
			w.unproven()
			w.advises("atobackupd scrub --all")
		},
		end: func(w *world) { w.settle() }},
	{name: "the history of another machine is copied under the daemon", want: "critical history",
		text: "another backup directory",
		make: func(w *world) {
			w.elsewhere()
			w.must(os.Rename(w.path("other/state/history.db"), w.path("state/history.db")))
			w.unproven()
		},
		end: func(w *world) { w.settle() }},
	{name: "the state directory of another installation is configured", want: "critical history",
		text: "another backup directory",
		make: func(w *world) {
			w.elsewhere()
			w.good = w.readFile("config.toml")
			w.restart(func() {
				w.write("config.toml", strings.Replace(w.good, w.path("state"), w.path("other/state"), 1))
			})
			w.unproven()
		}},
	{name: "the disk of other backups is mounted", want: "critical history", text: "another backup directory",
		make: func(w *world) {
			w.elsewhere()
			w.move("backups", "away")
			w.move("other/backups", "backups")
			w.unproven()
		},
		end: func(w *world) {
			w.move("backups", "other/backups")
			w.move("away", "backups")
			w.unproven() // the history of the other disk is another's here
			w.settle()
		}},

	// Clocks.
	{name: "a snapshot comes from the year 2040", want: "warning clock", text: "20400101T000000Z",
		make: func(w *world) { w.foreign("20400101T000000Z", true) },
		end:  func(w *world) { w.removeAll("backups/snapshots/2040*") }},
	{name: "a success is dated next month", want: "warning prune", text: "has not come yet",
		make: func(w *world) {
			w.record("UPDATE legs SET last_success = ? WHERE leg = 'prune'", time.Now().Add(30*day).UnixMilli())
		},
		end: func(w *world) { w.prune() }},
	{name: "a failure after a success that is dated next month", want: "critical snapshot", text: "no such file",
		make: func(w *world) {
			w.record("UPDATE legs SET last_success = ?1, last_attempt = ?1", time.Now().Add(30*day).UnixMilli())
			w.record("UPDATE runs SET started_at = ?1, finished_at = ?1", time.Now().Add(30*day).UnixMilli())
			w.move("data/a.db", "data/b.db")
			w.failTake()
		}},

	{name: "the clock goes ahead by a year", want: "critical snapshot", text: "more than 26 hours ago",
		make: func(w *world) { w.pass(365 * day) },
		end:  func(w *world) { w.settle() }},
	{name: "the clock was put back by a month", want: "critical snapshot", text: "is whole, and dated in the future",
		make: func(w *world) {
			w.copyAs("20000131T000001Z", "weekly", true)
			w.removeAll("backups/snapshots/20000101*")
			w.acceptDir()
			for _, column := range []string{"legs SET last_success", "legs SET last_attempt", "runs SET started_at",
				"runs SET finished_at", "slots SET served", "slots SET first_start"} {
				_, name, _ := strings.Cut(column, " SET ")
				w.record("UPDATE "+column+" = "+name+" + ?", (30 * day).Milliseconds())
			}
			w.advises("timedatectl")
		},
		end: func(w *world) { w.pass(31 * day); w.settle() }},

	// The daemon.
	{name: "the daemon hangs", want: "critical daemon", text: "last heard of",
		make: func(w *world) { w.hangs = true; w.pass(6 * time.Minute) },
		end:  func(w *world) { w.hangs = false; w.pass(time.Second) }},
	{name: "a second daemon is started", want: "critical daemon", text: "second daemon",
		make: func(w *world) { _, err := w.app.HoldLife(w.t.Context()); w.mustFail(err) },
		end:  func(w *world) { w.pass(61 * time.Minute) }},
	{name: "a second daemon of another state directory is started", want: "critical daemon", text: "state_dir",
		make: func(w *world) {
			other := *w.app.Config
			other.StateDir = w.path("other")
			a, err := app.Open(w.t.Context(), &other, app.Options{Version: "test", Host: "dalidou"})
			w.must(err)
			_, err = a.HoldLife(w.t.Context())
			w.mustFail(err)
			w.must(a.Close())
		},
		end: func(w *world) { w.pass(61 * time.Minute) }},
	{name: "the daemon before this one crashed", want: "critical daemon", text: "watchdog",
		make: func(w *world) {
			w.must(w.d.noteEnd(w.t.Context(), "watchdog", "killed", "ABRT"))
			w.sink.take()
			w.restart(func() { w.record("UPDATE alarms SET notified_at = NULL") })
			recordLife(w.t.Context(), w.app)
		},
		end: func(w *world) { w.pass(61 * time.Minute) }},
	{name: "a configuration is refused", want: "critical config", text: "min_fre",
		make: func(w *world) {
			w.good = w.readFile("config.toml")
			w.write("config.toml", "min_fre = 1\n"+w.good)
			w.d.reload(w.t.Context())
			w.write("config.toml", w.good)
		},
		end: func(w *world) { w.d.reload(w.t.Context()); w.app = w.d.app() }},
	{name: "the configuration is removed under the daemon", want: "critical config", text: "no such file",
		make: func(w *world) {
			w.good = w.readFile("config.toml")
			w.must(os.Remove(w.path("config.toml")))
			w.d.reload(w.t.Context())
			w.write("config.toml", w.good)
		},
		end: func(w *world) { w.d.reload(w.t.Context()); w.app = w.d.app() }},
	{name: "the address of the dashboard is taken", want: "critical http", text: "not served",
		make: func(w *world) {
			w.d.life.bad(alarmHTTP, health.Trouble{Message: "the dashboard and the API are not served: in use"})
		},
		end: func(w *world) { w.d.life.good(alarmHTTP) }},
	{name: "a job does not return", want: "critical job:scrub", text: "does not return",
		make: func(w *world) { w.event(scheduler.Event{Kind: scheduler.Stuck, Job: "scrub"}) },
		end:  func(w *world) { w.event(scheduler.Event{Kind: scheduler.Finished, Job: "scrub"}) }},
	{name: "the lock is held for more than an hour", want: "warning lock", text: "thinking",
		make: func(w *world) {
			var err error
			w.held, err = w.app.LockNow(w.t.Context(), "thinking")
			w.must(err)
			old := time.Now().Add(-61 * time.Minute)
			w.must(os.Chtimes(w.path("backups/.lock"), old, old))
			w.advises("atobackupd status")
		},
		end: func(w *world) { w.held.Unlock() }},

	// Who is told, and what is rehearsed.
	{name: "one of two addresses is dead", want: "warning notify", text: "exit status 1",
		make: func(w *world) { w.secondAddress(); w.digest(); w.advises("atobackupd notify test") },
		end:  func(w *world) { w.write("listens", ""); w.digest() }},
	{name: "nobody rehearsed a restore on the service", want: "warning live-drill", text: "for more than 100 days", forgets: true,
		make: func(w *world) {
			w.configure(func(c *config.Config) { c.Alarms.LiveDrill = config.Limit(100 * day) })
			w.pass(101 * day)
			w.settle()
			w.advises("atobackupd drill --live")
		},
		end: func(w *world) { w.configure(func(c *config.Config) { c.Alarms.LiveDrill = config.Off }) }},

	// What is not watched.
	{name: "a leg that is late is turned off", want: "critical snapshot", text: "26 hours", forgets: true,
		make: func(w *world) { w.pass(27 * hour) },
		end: func(w *world) {
			w.prune()
			w.configure(func(c *config.Config) { c.Alarms.Snapshot = config.Off })
		}},
	{name: "a schedule that comes once in four years", want: "critical snapshot", text: "26 hours",
		make: func(w *world) {
			w.configure(func(c *config.Config) { c.Schedule.Daily, c.Schedule.Weekly = "0 6 29 2 *", "" })
			w.pass(27 * hour)
		},
		end: func(w *world) { w.take(snapshot.Manual); w.prune() }},
	{name: "no schedule and no snapshot for days", want: "critical snapshot", text: "26 hours",
		make: func(w *world) {
			w.configure(func(c *config.Config) { c.Schedule.Daily, c.Schedule.Weekly = "", "" })
			w.pass(27 * hour)
		},
		end: func(w *world) { w.take(snapshot.Manual); w.prune() }},
}

var errSomething = &failure.Error{Op: "backup", Err: os.ErrNotExist}

// flipDB flips a byte in the database of the newest snapshot.
func (w *world) flipDB() { w.t.Helper(); w.flip(w.newest() + "/" + snapshot.DBFile) }

// unrecorded takes a snapshot that goes well, whatever can be remembered of it.
func (w *world) unrecorded() {
	w.t.Helper()
	w.take(snapshot.Daily)
	w.pass(time.Minute)
}

// change changes the live database.
func (w *world) change(statement string) {
	w.t.Helper()
	db, err := sql.Open("sqlite", w.path("data/a.db"))
	w.must(err)
	_, err = db.Exec(statement)
	w.must(errors.Join(err, db.Close()))
}

// accept accepts the newest suspect take, and with it those before it that met the
// same loss.
func (w *world) accept() {
	w.t.Helper()
	facts, _ := w.app.Facts(w.t.Context(), time.Now())
	w.must(w.app.Accept(w.t.Context(), snapshot.Stamp(facts.Shrunk[len(facts.Shrunk)-1].Stamp)))
}

// advises checks that the command to run about the gravest problem begins so.
func (w *world) advises(command string) {
	w.t.Helper()
	status, err := w.app.Status(w.t.Context(), time.Now())
	w.must(err)
	problems := status.Problems()
	if len(problems) == 0 || !strings.HasPrefix(problems[0].Command(), command) {
		w.t.Errorf("%q is not advised: %+v", command, problems)
	}
}

// holds checks how many snapshots every mouth that counts says that the vault holds.
func (w *world) holds(n int) {
	w.t.Helper()
	status, err := w.app.Status(w.t.Context(), time.Now())
	w.must(err)
	catalog, err := w.app.List(w.t.Context(), time.Now())
	w.must(err)
	listed := 0
	for _, entry := range catalog.Backups {
		listed += len(entry.Offsite)
	}
	server := w.server()
	if got := status.Targets[0].Snapshots; got != n || listed != n ||
		w.number(w.get(server, "/metrics"), `atobackupd_offsite_snapshots{target="disk"}`) != strconv.Itoa(n) {
		w.t.Errorf("it holds %d by status, %d by list, want %d", got, listed, n)
	}
}

// forgetThere removes the newest push from the vault behind this machine's back.
func (w *world) forgetThere() {
	w.t.Helper()
	w.removeAll("vault/snapshots/" + filepath.Base(w.newest()) + "-*")
}

// unknownChroma saves a vector store that is none, and knownChroma the one that it was.
func (w *world) unknownChroma() {
	w.t.Helper()
	w.move("data/whole", "data/away")
	w.must(os.Mkdir(w.path("data/whole"), 0o755))
	w.write("data/whole/x", "x")
	w.take(snapshot.Weekly)
}

func (w *world) knownChroma() {
	w.t.Helper()
	w.must(os.RemoveAll(w.path("data/whole")))
	w.move("data/away", "data/whole")
	w.take(snapshot.Weekly)
}

// emptyPacks leaves the vault its index and nothing in its packs.
func (w *world) emptyPacks() {
	w.t.Helper()
	w.each("vault/packs/*.age", func(path string) {
		w.must(os.Chmod(path, 0o600))
		w.must(os.Truncate(path, 0))
	})
}

// elsewhere makes another installation, in other, in which everything was done once.
func (w *world) elsewhere() {
	w.t.Helper()
	c := *w.app.Config
	c.StateDir, c.Backup.Dir = w.path("other/state"), w.path("other/backups")
	c.Offsite = slices.Clone(c.Offsite)
	c.Offsite[0].Path = w.path("other/vault")
	w.must(os.MkdirAll(c.Offsite[0].Path, 0o755))
	a, err := app.Open(w.t.Context(), &c, app.Options{Version: "test", Host: "nas"})
	w.must(err)
	other := &world{house: w.house, app: a}
	other.settle()
	w.must(a.Close())
}

// unproven checks that no check, prune or drill is believed to have been.
func (w *world) unproven() {
	w.t.Helper()
	facts, _ := w.app.Facts(w.t.Context(), time.Now())
	for _, leg := range facts.Legs {
		if !leg.LastSuccess.IsZero() || leg.Last.ID != 0 {
			w.t.Errorf("%s is believed: %v", leg.Name, leg.LastSuccess)
		}
	}
}

// bringBack has a snapshot that is gone come back from the vault.
func (w *world) bringBack(dir string) {
	w.t.Helper()
	doc, err := w.app.Repair(w.t.Context(), time.Now(), app.RepairRequest{Confirm: true, From: "disk",
		Stamp: snapshot.Stamp(filepath.Base(dir)), Identity: w.path("identity")})
	if err != nil {
		w.t.Fatalf("%v: %+v", err, doc)
	}
}

// acceptGone accepts that a snapshot is gone.
func (w *world) acceptGone(dir string) {
	w.t.Helper()
	w.must(w.app.Accept(w.t.Context(), snapshot.Stamp(filepath.Base(dir))))
}

func (w *world) acceptDir() { w.t.Helper(); w.must(w.app.AcceptBackupDir(w.t.Context())) }

// unshare makes a file one of its own that was a hard link to others.
func (w *world) unshare(path string) {
	w.t.Helper()
	data, err := os.ReadFile(path)
	w.must(err)
	w.must(os.Remove(path))
	w.must(os.WriteFile(path, data, 0o400))
}

// forget takes a snapshot out of the vault.
func (w *world) forget(stamp string) {
	w.t.Helper()
	v, err := w.app.OpenVaultTarget(w.t.Context(), w.app.Config.Offsite[0], nil)
	w.must(err)
	defer v.Close()
	_, err = v.ForgetSnapshot(w.t.Context(), stamp)
	w.must(err)
}

// flipPack flips a byte of the first pack in the vault.
func (w *world) flipPack() {
	w.t.Helper()
	packs, err := filepath.Glob(w.path("vault/packs/*.age"))
	w.must(err)
	if len(packs) == 0 {
		w.t.Fatal("there is no pack")
	}
	w.flip(packs[0])
}

func (w *world) validate() { w.t.Helper(); w.must(w.validateOnly(w.newest())) }

func (w *world) validateOnly(dir string) error {
	time.Sleep(time.Second)
	_, err := w.app.Validate(w.t.Context(), snapshot.Stamp(filepath.Base(dir)))
	return err
}

func (w *world) failTake() {
	w.t.Helper()
	_, err := w.tryTake(snapshot.Daily)
	w.mustFail(err)
}

func (w *world) event(e scheduler.Event) { w.d.report(e) }

func (w *world) each(pattern string, do func(path string)) {
	w.t.Helper()
	paths, err := filepath.Glob(w.path(pattern))
	w.must(err)
	if len(paths) == 0 {
		w.t.Fatalf("there is no %s", pattern)
	}
	for _, path := range paths {
		do(path)
	}
}

func (w *world) removeAll(pattern string) {
	w.each(pattern, func(path string) { w.must(os.RemoveAll(path)) })
}

func (w *world) rewrite(path, text string) {
	w.t.Helper()
	w.must(os.WriteFile(path, []byte(text), 0o600))
}

func (w *world) readFile(name string) string {
	w.t.Helper()
	data, err := os.ReadFile(w.path(name))
	w.must(err)
	return string(data)
}

// foreign makes a snapshot as AtoCore's own tools do.
func (w *world) foreign(stamp string, sound bool) {
	w.t.Helper()
	from, to := w.newest(), w.path("backups/snapshots/"+stamp)
	if out, err := exec.Command("cp", "-r", from, to).CombinedOutput(); err != nil {
		w.t.Fatalf("%v: %s", err, out)
	}
	w.must(os.Remove(to + "/atobackupd.json"))
	w.must(os.RemoveAll(to + "/chroma"))
	w.rewrite(to+"/"+snapshot.MetadataFile, `{"backup_root": "`+to+`", "db_snapshot_path": "`+to+
		`/db/atocore.db", "registry_snapshot_path": ""}`)
	if !sound {
		w.must(os.Chmod(to+"/"+snapshot.DBFile, 0o600))
		w.rewrite(to+"/"+snapshot.DBFile, "no database")
	}
}

// copyAs makes a snapshot of ours that is another's copy, of a kind.
func (w *world) copyAs(stamp, kind string, valid bool) {
	w.t.Helper()
	from, to := w.newest(), w.path("backups/snapshots/"+stamp)
	if out, err := exec.Command("cp", "-r", from, to).CombinedOutput(); err != nil {
		w.t.Fatalf("%v: %s", err, out)
	}
	m, err := snapshot.ReadManifest(to)
	w.must(err)
	m.Stamp, m.Kind, m.Validation.Valid = snapshot.Stamp(stamp), snapshot.Kind(kind), valid
	m.Validation.Errors = []string{"db_snapshot_missing"}
	w.rewrite(to+"/atobackupd.json", encode(w, m))
}

// recipients configures a file of recipients.
func (w *world) recipients() {
	w.encryption = w.app.Config.Encryption
	w.configure(func(c *config.Config) {
		c.Encryption.Recipients, c.Encryption.RecipientsFile = nil, w.path("recipients")
	})
}

// journal leaves what an interrupted restore leaves, or takes it away.
func (w *world) journal(stands bool) {
	w.t.Helper()
	for _, dir := range []string{"backups", "state"} {
		path := w.path(dir + "/restore-journal.json")
		if !stands {
			w.must(os.Remove(path))
			continue
		}
		w.rewrite(path, `{"schema": 1, "phase": "swapping", "stamp": "20000101T000002Z", "source": "local", `+
			`"workspaces": [], "made_dirs": [], "targets": []}`)
	}
}

// filling has the history say that the disk is full in some days.
func (w *world) filling(days int64) {
	w.t.Helper()
	w.days(5)
	w.must(w.scrub())
	free, err := fsx.Free(w.path("backups"))
	w.must(err)
	left := free - w.app.Config.Backup.MinFree.Bytes()
	for i := range int64(5) {
		at := time.Now().Add(-time.Duration(i) * day)
		w.record(`INSERT INTO runs (job, kind, stamp, started_at, finished_at, outcome, error, bytes, detail, owner)
			VALUES ('prune', '', '', ?1, ?1, 'ok', '', 0, json_object('free', ?2), 'a/1/2')`,
			at.UnixMilli(), free+i*left/days)
	}
	w.record(`UPDATE runs SET detail = '{}' WHERE job = 'prune' AND owner <> 'a/1/2'`)
}

// settle does everything once more after the history was lost.
func (w *world) settle() {
	w.t.Helper()
	w.take(snapshot.Weekly)
	w.ship()
	w.prune()
	w.must(w.scrub())
	w.must(w.drill())
	w.must(w.verify())
}
