package config

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/internal/failure"
)

const minimal = "atocore.db_path = \"/data/db\"\nbackup.dir = \"/backups\"\n"

func mustParse(t *testing.T, text string) *Config {
	t.Helper()
	c, err := Parse("test.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestLocate(t *testing.T) {
	t.Setenv("ATOBACKUPD_CONFIG", "")
	if got := Locate(""); got != "/etc/atobackupd/config.toml" {
		t.Errorf("by default %s", got)
	}
	t.Setenv("ATOBACKUPD_CONFIG", "/env.toml")
	if got := Locate(""); got != "/env.toml" {
		t.Errorf("with the variable %s", got)
	}
	if got := Locate("/flag.toml"); got != "/flag.toml" {
		t.Errorf("with the flag %s", got)
	}
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte(minimal), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if c.Path != path || c.AtoCore.DBPath != "/data/db" || c.Backup.Dir != "/backups" {
		t.Errorf("loaded %+v", c)
	}
}

func TestLoadErrors(t *testing.T) {
	dir := t.TempDir()
	large, dangling := filepath.Join(dir, "large"), filepath.Join(dir, "dangling")
	if err := os.WriteFile(large, bytes.Repeat([]byte("\n"), 257<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", dangling); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ path, want string }{
		{dangling, "no such file or directory: make one with atobackupd init, or name another with --config"},
		{dir, "is a directory: check the path and who may read it"},
		{large, "is larger than 256KiB, so no configuration: check the path and who may read it"},
	}
	for _, test := range tests {
		_, err := Load(test.path)
		if err == nil || err.Error() != "config "+test.path+": "+test.want || failure.KindOf(err) != failure.Config {
			t.Errorf("got  %v\nwant config %s: %s", err, test.path, test.want)
		}
	}
}

func TestWeeklyAndMonthlyDependOnChroma(t *testing.T) {
	def := Default().Schedule
	tests := []struct{ text, weekly, monthly string }{
		{minimal, "", ""},
		{minimal + "[schedule]\nweekly = \"1 5 * * 0\"\n", "1 5 * * 0", ""},
		{minimal + "[schedule]\nmonthly = \"1 4 1 * *\"\n", "", "1 4 1 * *"},
		{minimal + "atocore.chroma_path = \"/data/chroma\"\n", def.Weekly, def.Monthly},
		{minimal + "atocore.chroma_path = \"/data/chroma\"\n[schedule]\nweekly = \"\"\nmonthly = \"\"\n", "", ""},
	}
	for _, test := range tests {
		got := mustParse(t, test.text).Schedule
		if got.Weekly != test.weekly || got.Monthly != test.monthly {
			t.Errorf("weekly is %q, want %q, monthly %q, want %q, of\n%s", got.Weekly, test.weekly, got.Monthly,
				test.monthly, test.text)
		}
	}
}

func TestTargetDefaults(t *testing.T) {
	const sftp = minimal + "encryption.recipients = [\"age1a\"]\n[[offsite]]\nname = \"a\"\nhosts = [\"h\"]\nuser = " +
		"\"u\"\nknown_hosts = \"/k\"\npath = \"/v\"\n"
	got := mustParse(t, sftp).Offsite[0]
	if got.Type != "sftp" || got.Transport != "builtin" || got.Port != 22 || !got.Prune ||
		got.RebaseRatio != 0.5 || got.MaxAge.String() != "8d" || got.RetryEvery.String() != "15m" ||
		got.BandwidthLimit != 0 {
		t.Errorf("sftp: %+v", got)
	}
	if got := mustParse(t, sftp+"append_only = true\n").Offsite[0]; got.Prune {
		t.Error("an append-only target is to be pruned from here")
	}
	if got := mustParse(t, sftp+"prune = false\nmax_age = \"off\"\n").Offsite[0]; got.Prune || got.MaxAge.Std() != 0 {
		t.Errorf("choices are overridden: %+v", got)
	}
	if got := mustParse(t, sftp+"transport = \"openssh\"\n").Offsite[0]; got.Port != 0 {
		t.Errorf("openssh: port %d overrides ssh_config", got.Port)
	}
	disk := mustParse(t, minimal+"encryption.recipients = [\"age1a\"]\n[[offsite]]\nname = \"a\"\ntype = "+
		"\"dir\"\npath = \"/v/\"\n").Offsite[0]
	if disk.Port != 0 || disk.Transport != "" || disk.Path != "/v" || disk.ConnectTimeout != 0 || disk.LockFor != 0 {
		t.Errorf("dir: %+v", disk)
	}
	const s3 = minimal + "encryption.recipients = [\"age1a\"]\n[[offsite]]\nname = \"a\"\ntype = \"s3\"\nendpoint = " +
		"\"https://h\"\nbucket = \"vault\"\n"
	bucket := mustParse(t, s3).Offsite[0]
	if bucket.Region != "us-east-1" || bucket.LockFor.String() != "30d" || bucket.ConnectTimeout.String() != "30s" ||
		bucket.Port != 0 || !bucket.Prune {
		t.Errorf("s3: %+v", bucket)
	}
	if got := mustParse(t, s3+"lock_for = \"off\"\nprefix = \"a/b/\"\n").Offsite[0]; got.LockFor.Std() != 0 ||
		got.Prefix != "a/b" {
		t.Errorf("s3 without locks: %+v", got)
	}
}

func TestLiveDrillDependsOnTheService(t *testing.T) {
	tests := []struct{ text, want string }{
		{minimal, "off"},
		{minimal + "restore.stop_command = [\"x\"]\n", "100d"},
		{minimal + "restore.stop_command = [\"x\"]\nalarms.live_drill = \"off\"\n", "off"},
		{minimal + "alarms.live_drill = \"30d\"\n", "30d"},
	}
	for _, test := range tests {
		if got := mustParse(t, test.text).Alarms.LiveDrill.String(); got != test.want {
			t.Errorf("live_drill is %q, want %q, of\n%s", got, test.want, test.text)
		}
	}
}

func TestCheckDefaults(t *testing.T) {
	checks := mustParse(t, minimal+
		"[[restore.checks]]\nurl = \"http://h/\"\n[[restore.checks]]\nsql = \"select 1\"\n").Restore.Checks
	if checks[0].Method != "GET" || checks[0].Status != 200 || checks[1].Method != "" || checks[1].Status != 0 {
		t.Errorf("%+v", checks)
	}
}

func TestPolicy(t *testing.T) {
	c := mustParse(t, minimal+`
[retention]
daily = 10
weekly = 11
suspect_days = 9
[encryption]
recipients = ["age1a"]
[[offsite]]
name = "a"
type = "dir"
path = "/v"
[offsite.retention]
daily = 0
monthly = 24
keep_within = "7d"
`)
	got := c.Offsite[0].Retention
	want := Retention{
		Daily: 0, Weekly: 11, Monthly: 24, KeepWithin: Duration(7 * day),
		PreRestoreDays: 30, SuspectDays: 9, InvalidDays: 7, MaxDeleteFraction: 0.5,
	}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if c.Retention.Daily != 10 {
		t.Error("the local policy has changed")
	}
}

func TestManyProblems(t *testing.T) {
	_, err := Parse("x", []byte(strings.Repeat("log.level = \"info\"\n", 30)+minimal))
	if got := strings.Count(err.Error(), "log.level is given twice, first on line 1"); got != 29 {
		t.Errorf("%d of 29 are reported:\n%v", got, err)
	}
}

// The decoder stops at its first error; it is asked again without that, but
// not for ever, and what it never got to see is not called missing.
func TestManyErrorsOfTheDecoder(t *testing.T) {
	const conflict = "[[offsite]]\nretention.daily = 1\n[offsite.retention]\n"
	for targets, want := range map[int]int{3: 3, 30: maxRepeats} {
		_, err := Parse("x", []byte(minimal+strings.Repeat(conflict, targets)))
		if got := strings.Count(err.Error(), "in the line [offsite.retention]"); got != want {
			t.Errorf("%d of %d are reported, want %d:\n%v", got, targets, want, err)
		}
		if strings.Contains(err.Error(), "db_path is required") {
			t.Errorf("calls missing what is there:\n%v", err)
		}
	}
}
