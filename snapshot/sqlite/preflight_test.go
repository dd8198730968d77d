package sqlite

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
)

func TestPreflight(t *testing.T) {
	top := openDir(t)
	dir := filepath.Join(top, "data")
	at := func(name string) string { return filepath.Join(dir, name) }
	filled(t, job{Path: at("good.db"), Journal: "wal"}, 5).Close()
	good, err := os.ReadFile(at("good.db"))
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{
		"empty.db":  "",
		"short.db":  string(good[:50]),
		"text.db":   strings.Repeat("not a database\n", 100),
		"closed.db": string(good),
	} {
		if err := os.WriteFile(at(name), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(unix.Mkfifo(at("fifo.db"), 0o644), os.Mkdir(at("dir.db"), 0o755),
		os.Chmod(at("closed.db"), 0), os.Symlink("good.db", at("link.db")),
		os.Symlink("nowhere", at("dangling.db"))); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // else its links are somebody else's
		t.Fatal(err)
	}
	before := fsxtest.Tree(t, dir)
	for _, test := range []struct {
		name string
		kind failure.Kind
		want string // between the subject and the end
	}{
		{
			"missing.db",
			failure.NotFound,
			"no such file or directory: check the path, and that its file system is mounted",
		},
		{
			"dangling.db",
			failure.NotFound,
			"no such file or directory: check the path, and that its file system is mounted",
		},
		{"dir.db", failure.Other, "not a regular file (d---------): give the path of the database file itself"},
		{"fifo.db", failure.Other, "not a regular file (p---------): give the path of the database file itself"},
		{
			"empty.db",
			failure.Other,
			"not a SQLite database: the file is empty: check the path; an encrypted or overwritten database cannot " +
				"be copied",
		},
		{
			"short.db",
			failure.Other,
			"not a SQLite database: the file has only 50 bytes: check the path; an encrypted or overwritten " +
				"database cannot be copied",
		},
		{
			"text.db",
			failure.Other,
			"not a SQLite database: its header is not one: check the path; an encrypted or overwritten database " +
				"cannot be copied",
		},
	} {
		subject := strings.Replace(at(test.name), "dangling.db", "nowhere", 1) // what is missing
		want := "copy database: " + subject + ": " + test.want
		err := Preflight(liveAt(at(test.name)))
		if err == nil || err.Error() != want || failure.KindOf(err) != test.kind {
			t.Errorf("%v (kind %d)\nwant %s", err, failure.KindOf(err), want)
		}
		if _, err := Copy(context.Background(), liveAt(at(test.name)), at("copy.db"), CopyOptions{}); err == nil ||
			err.Error() != want {
			t.Errorf("Copy: %v\nwant %s", err, want)
		}
	}
	if err := errors.Join(Preflight(liveAt(at("good.db"))), Preflight(liveAt(at("link.db")))); err != nil {
		t.Error(err)
	}
	if after := fsxtest.Tree(t, dir); after != before {
		t.Errorf("something was made:\n%s", after)
	}
	// Root can read everything, so another user looks at the last one.
	var options []childOption
	if os.Geteuid() == 0 {
		options = append(options, asUser(otherUID))
	}
	got := start(t, "preflight", job{Path: at("closed.db")}, options...).Line()
	if !strings.HasPrefix(got, "error copy database: "+at("closed.db")+": permission denied: let uid ") {
		t.Error(got)
	}
	if !errors.Is(Preflight(liveAt(at("missing.db"))), fs.ErrNotExist) {
		t.Error("a missing file is not fs.ErrNotExist")
	}
}
