package config

import (
	"errors"
	"testing"

	"github.com/atocore/atobackupd/internal/failure"
)

func anyExpression(string) error { return nil }

func TestValidateRun(t *testing.T) {
	c := mustParse(t, minimal+`backup.chroma_method = "api"
atocore.api_url = "http://127.0.0.1:8100"
[schedule]
weekly = "0 5 * * 0"
daily = ""
monthly = "@monthly"
[notify]
digest = "0 3 * * 3"
`)
	refuse := func(expression string) error {
		if expression == "0 3 * * 3" {
			return errors.New("no such Wednesday")
		}
		return nil
	}
	err := c.ValidateRun(refuse)
	const want = `config test.toml:3:24: backup.chroma_method = "api" needs backup.atocore_group: ` +
		`AtoCore adds a snapshot to backup.dir, which is private otherwise: ` +
		`name AtoCore's group, e.g. atocore_group = "1000"
config test.toml:5:2: schedule.scrub = "0 3 * * 3": no such Wednesday: ` +
		`write five fields such as "0 6 * * *", or "" to turn it off
config test.toml:6:10: schedule.weekly = "0 5 * * 0", but there is no atocore.chroma_path to save: ` +
		`set atocore.chroma_path, or weekly = ""
config test.toml:8:11: schedule.monthly = "@monthly", but there is no atocore.chroma_path to save: ` +
		`set atocore.chroma_path, or monthly = ""
config test.toml:10:10: notify.digest = "0 3 * * 3": no such Wednesday: ` +
		`write five fields such as "0 6 * * *", or "" to turn it off`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	if failure.KindOf(err) != failure.Config {
		t.Errorf("kind %v", failure.KindOf(err))
	}
	if err := mustParse(t, minimal).ValidateRun(anyExpression); err != nil {
		t.Errorf("without weekly: %v", err)
	}
}

func TestValidateByHand(t *testing.T) {
	c := Default()
	c.AtoCore.DBPath, c.Backup.Dir = "/data/db", "/backups"
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	c.Log.Level = "loud"
	const want = `config: log.level = "loud": must be one of debug, info, warn, error`
	if err := c.Validate(); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestNearest(t *testing.T) {
	tests := []struct{ word, want string }{
		{"dialy", "daily"}, {"Daily", "daily"}, {"day", ""}, {"weekley", "weekly"},
		{"month", "monthly"}, {"dailyreport", "daily"}, {"x", ""}, {"", ""}, {"PSOT", "POST"}, {"retention", ""},
	}
	for _, test := range tests {
		if got := Nearest(test.word, []string{"daily", "weekly", "monthly", "POST"}); got != test.want {
			t.Errorf("%q: got %q, want %q", test.word, got, test.want)
		}
	}
}

func TestWithin(t *testing.T) {
	tests := []struct {
		path, dir string
		want      bool
	}{
		{"/a/b", "/a", true}, {"/a", "/a", true}, {"/ab", "/a", false}, {"/a", "/a/b", false},
		{"/a/..b", "/a", true}, {"", "/a", false}, {"/a", "", false}, {"/b", "/a", false},
	}
	for _, test := range tests {
		if got := within(test.path, test.dir); got != test.want {
			t.Errorf("%q in %q: %v", test.path, test.dir, got)
		}
	}
}
