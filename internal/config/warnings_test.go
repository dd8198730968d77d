package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// quiet is a configuration about which there is nothing to say.
const quiet = `
[atocore]
db_path = "/data/db"
chroma_path = "/data/chroma"
[backup]
dir = "/backups"
[encryption]
recipients = ["age1laptop", "age1drawer"]
[notify]
urls = ["ntfy://me:hunter2@ntfy.sh/topic"]
[[offsite]]
name = "laptop"
hosts = ["laptop.local"]
user = "atobackup"
known_hosts = "/etc/atobackupd/known_hosts"
path = "/vault"
`

func TestWarnings(t *testing.T) {
	tests := []struct {
		old, new string // what is replaced in quiet
		want     []string
	}{
		{"", "", nil},
		{`"age1laptop", `, ``, []string{"encryption.recipients has one key: if its secret is lost, so is every off-site copy; add one whose secret lies in a drawer"}},
		{`recipients = ["age1laptop", "age1drawer"]`, "recipients = [\"age1laptop\"]\nrecipients_file = \"/r\"", nil},
		{"[[offsite]]", "prune = false\nmax_age = \"5m\"\n", []string{
			`offsite "laptop": max_age = "5m" is not longer than retry_every = "15m": one unanswered try is an alarm; make it longer`,
			`offsite "laptop": prune = false: run atobackupd vault prune on the other machine, or its disk fills`,
		}},
		{"[notify]\nurls", "[log]\n#", []string{"nobody is told when a backup fails: set notify.urls, notify.urls_file or notify.heartbeats"}},
		{"[notify]", "[schedule]\ndaily = \"\"\nweekly = \"\"\n[notify]", []string{"schedule.daily and schedule.weekly are off: no snapshot is taken unless somebody asks"}},
		{"[notify]", "[schedule]\nweekly = \"\"\n[notify]", []string{"schedule.weekly is off: Chroma is saved only by atobackupd backup --chroma"}},
		{"[notify]", "[retention]\ndaily = 0\nweekly = 0\nmonthly = 0\n[notify]", []string{"[retention] keeps everything: all counts are 0, and the disk will fill"}},
		{"[notify]", "[restore]\nstop_command = [\"x\"]\n[notify]", []string{"restore.stop_command and restore.start_command belong together: restore --manage-service needs both"}},
		{"[notify]", "[http]\nlisten = \"\"\n[notify]", []string{`http.listen = "": no dashboard and no metrics`}},
		{"[notify]", "[alarms]\nsnapshot = \"24h\"\nfull = \"6d\"\nprune = \"0\"\n[notify]", []string{
			`alarms.snapshot = "1d" is not longer than the 1d between two runs of schedule.daily: it rings without cause; make it longer`,
			`alarms.full = "6d" is not longer than the 7d between two runs of schedule.weekly: it rings without cause; make it longer`,
		}},
	}
	for _, test := range tests {
		text := strings.Replace(quiet, test.old, test.new, 1)
		if strings.HasPrefix(test.new, "prune") {
			text = quiet + test.new
		}
		if got := mustParse(t, text).Warnings(); !slices.Equal(got, test.want) {
			t.Errorf("with %q:\ngot  %q\nwant %q", test.new, got, test.want)
		}
	}
	if got := mustParse(t, minimal).Warnings()[0]; got != "no [[offsite]] target: a lost machine takes every backup with it; add one" {
		t.Errorf("without a target: %q", got)
	}
}

func TestWarnsOfReadableSecrets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	warnings := func(text string, mode os.FileMode) []string {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		c, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		return c.Warnings()
	}
	want := path + " can be read by every user and holds secrets: chmod 640 it, or move the addresses to notify.urls_file"
	if got := warnings(quiet, 0o644); !slices.Equal(got, []string{want}) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := warnings(quiet, 0o640); got != nil {
		t.Errorf("mode 640: %q", got)
	}
	harmless := strings.Replace(quiet, "urls = [\"ntfy://me:hunter2@ntfy.sh/topic\"]", "urls_file = \"/u\"", 1)
	if got := warnings(harmless, 0o644); got != nil {
		t.Errorf("without secrets: %q", got)
	}
}

func TestPeriod(t *testing.T) {
	tests := []struct{ expression, want string }{
		{"0 6 * * *", "1d"}, {"@daily", "1d"}, {"0 5 * * 0", "7d"}, {"0 5 * * SUN", "7d"}, {"@weekly", "7d"},
		{"0 */6 * * *", "0"}, {"0 6,18 * * *", "0"}, {"0 7 1 1,4,7,10 *", "0"}, {"0 6 * * 1-5", "0"}, {"@every 3h", "0"}, {"", "0"},
	}
	for _, test := range tests {
		if got := Duration(period(test.expression)).String(); got != test.want {
			t.Errorf("%q: %s, want %s", test.expression, got, test.want)
		}
	}
}
