package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// gaps answers for the expressions of the tests below; the rest are off.
func gaps(expressions ...string) time.Duration {
	known := map[string]time.Duration{
		"0 6 * * *": day, "0 5 * * 0": 7 * day, "0 4 1 * *": 31 * day, "@monthly": 31 * day, "0 6 * * MON-FRI": 3 * day,
		"0 3 * * 3": 7 * day, "0 2 * * 6": 7 * day, "0 7 1 1,4,7,10 *": 92 * day,
	}
	var shortest time.Duration
	for _, e := range expressions {
		if gap := known[e]; gap > 0 && (shortest == 0 || gap < shortest) {
			shortest = gap
		}
	}
	return shortest
}

func noGap(...string) time.Duration { return 0 }

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

const bucket = "[[offsite]]\nname = \"bucket\"\ntype = \"s3\"\nendpoint = \"https://s3.example.net\"\n" +
	"bucket = \"vault\"\ncredentials_file = \"/c\"\n"

func TestWarnings(t *testing.T) {
	tests := []struct {
		old, new string // what is replaced in quiet
		want     []string
	}{
		{"", "", nil},
		{`"age1laptop", `, ``, []string{"encryption.recipients has one key: if its secret is lost, so is every " +
			"off-site copy; add one whose secret lies in a drawer"}},
		{`recipients = ["age1laptop", "age1drawer"]`, "recipients = [\"age1laptop\"]\nrecipients_file = \"/r\"", nil},
		{"[[offsite]]", "prune = false\nmax_age = \"5m\"\n", []string{
			`offsite "laptop": max_age = "5m" is not longer than retry_every = "15m": one unanswered try is an ` +
				`alarm; make it longer`,
			`offsite "laptop": prune = false: run atobackupd vault prune on the other machine, or its disk fills`,
		}},
		{"urls = [", "command = [\"/bin/tell\"]\n#", nil},
		{"[notify]\nurls", "[log]\n#", []string{"nobody is told when a backup fails: set notify.urls, " +
			"notify.urls_file, notify.command or notify.heartbeats"}},
		{"[notify]", "[schedule]\ndaily = \"\"\nweekly = \"\"\nmonthly = \"\"\n[notify]",
			[]string{"schedule.daily, schedule.weekly and schedule.monthly are off: no snapshot is taken unless " +
				"somebody asks"}},
		{"[notify]", "[schedule]\nweekly = \"\"\nmonthly = \"\"\n[notify]",
			[]string{"schedule.weekly and schedule.monthly are off: Chroma is saved only by atobackupd backup " +
				"--chroma"}},
		{"[notify]", "[retention]\ndaily = 0\nweekly = 0\nmonthly = 0\n[notify]",
			[]string{"[retention] keeps everything: all counts are 0, and the disk will fill"}},
		{"[notify]", "[restore]\nstop_command = [\"x\"]\n[notify]", []string{"restore.stop_command and " +
			"restore.start_command belong together: restore --manage-service needs both"}},
		{"[notify]", "[http]\nlisten = \"\"\n[notify]", []string{`http.listen = "": no dashboard and no metrics`}},
		{"[notify]", "[schedule]\nweekly = \"\"\nmonthly = \"@monthly\"\n[alarms]\nfull = \"32d\"\n[notify]", nil},
		{"[notify]", "[alarms]\nsnapshot = \"24h\"\nfull = \"6d\"\nprune = \"off\"\n[notify]", []string{
			`alarms.snapshot = "1d" is not longer than the 1d between two runs of schedule.daily, weekly and ` +
				`monthly: it rings without cause; make it longer`,
			`alarms.full = "6d" is not longer than the 7d between two runs of schedule.weekly and monthly: it rings ` +
				`without cause; make it longer`,
		}},
		{"[notify]", "[schedule]\ndaily = \"0 6 * * MON-FRI\"\n[notify]", []string{
			`alarms.snapshot = "26h" is not longer than the 3d between two runs of schedule.daily, weekly and ` +
				`monthly: it rings without cause; make it longer`,
			`alarms.prune = "26h" is not longer than the 3d between two runs of schedule.daily, weekly and monthly: ` +
				`it rings without cause; make it longer`,
		}},
		{"[notify]", "[schedule]\ndaily = \"\"\n[notify]", nil},
		{"[notify]", "[alarms]\nsnapshot = \"9999d\"\ndrill = \"9999d\"\nverify = \"35d\"\n[notify]", []string{
			`alarms.snapshot = "9999d" is many times the 1d between two runs of schedule.daily, weekly and monthly: ` +
				`nobody is told while they fail; make it shorter`,
			`alarms.drill = "9999d" is many times the 92d between two runs of schedule.drill: nobody is told while ` +
				`they fail; make it shorter`,
			`alarms.verify = "35d" is not longer than schedule.verify_every = "35d": it rings before a verify ` +
				`counts as done; make it longer`,
		}},
		{"[[offsite]]", "max_age = \"9999d\"\n",
			[]string{`offsite "laptop": max_age = "9999d": nobody is told while nothing gets there; make it shorter`}},
		{"[[offsite]]", "max_age = \"20h\"\n",
			[]string{`offsite "laptop": max_age = "20h" is not longer than the 1d between two snapshots: it rings ` +
				`without cause; make it longer`}},
		{"[[offsite]]", "max_age = \"off\"\n", nil},
		{"[[offsite]]", bucket, nil},
		{"[[offsite]]", bucket + "lock_for = \"47h\"\n", []string{
			`offsite "bucket": lock_for = "47h": half of it is not longer than the 1d between two syncs, ` +
				`so that objects may be without a lock; make it longer`}},
		{"[[offsite]]", bucket + "lock_for = \"off\"\n", nil},
		{"[[offsite]]", bucket + "[schedule]\ndaily = \"\"\nweekly = \"\"\nmonthly = \"\"\n", []string{
			"schedule.daily, schedule.weekly and schedule.monthly are off: no snapshot is taken unless somebody asks",
			`offsite "bucket": lock_for = "30d", and nothing is scheduled: locks end unless somebody syncs in time`,
		}},
		{"[notify]\nurls", "[notify]\ndigest = \"0 8 * * 1\"\nheartbeats.full = \"https://h/x\"\n#", []string{
			"notify.digest has nobody to be sent to: set notify.urls, notify.urls_file or notify.command",
		}},
		{"[notify]\nurls", "[notify]\nheartbeats.full = \"https://h/x\"\n#", nil},
		{"[notify]\nurls", "[notify]\nurls_file = \"/u\"\ndigest = \"0 8 * * 1\"\n#", nil},
		{"[notify]", "[restore]\nstart_command = [\"x\"]\n[notify]", []string{"restore.stop_command and " +
			"restore.start_command belong together: restore --manage-service needs both"}},
		{"[notify]", "[restore]\nstart_command = [\"x\"]\nstop_command = [\"y\"]\n[notify]", nil},
		{"[notify]", "[retention]\ndaily = 0\nweekly = 0\n[notify]", nil},
		{"[notify]", "[alarms]\nscrub = \"7d\"\ndrill = \"92d\"\n[notify]", []string{
			`alarms.scrub = "7d" is not longer than the 7d between two runs of schedule.scrub: it rings without ` +
				`cause; make it longer`,
			`alarms.drill = "92d" is not longer than the 92d between two runs of schedule.drill: it rings without ` +
				`cause; make it longer`,
		}},
		{"[notify]", "[schedule]\nscrub = \"\"\ndrill = \"\"\nverify = \"\"\n[alarms]\nscrub = \"1h\"\n" +
			"drill = \"1h\"\nverify = \"1h\"\n[notify]", nil},
		{"[notify]", "[alarms]\nscrub = \"70d\"\nprune = \"10d\"\n[notify]", nil},
		{"[notify]", "[alarms]\nscrub = \"71d\"\nprune = \"11d\"\n[notify]", []string{
			`alarms.prune = "11d" is many times the 1d between two runs of schedule.daily, weekly and monthly: ` +
				`nobody is told while they fail; make it shorter`,
			`alarms.scrub = "71d" is many times the 7d between two runs of schedule.scrub: nobody is told while ` +
				`they fail; make it shorter`,
		}},
		{"[[offsite]]", "max_age = \"100d\"\n", nil},
		{"[[offsite]]", "max_age = \"15m\"\n", []string{`offsite "laptop": max_age = "15m" is not longer than ` +
			`retry_every = "15m": one unanswered try is an alarm; make it longer`}},
	}
	for _, test := range tests {
		text := strings.Replace(quiet, test.old, test.new, 1)
		if test.old == "[[offsite]]" {
			text = quiet + test.new
		}
		if got := mustParse(t, text).Warnings(gaps); !slices.Equal(got, test.want) {
			t.Errorf("with %q:\ngot  %q\nwant %q", test.new, got, test.want)
		}
	}
	if got := mustParse(t, minimal).Warnings(gaps)[0]; got != "no [[offsite]] target: a lost machine takes every "+
		"backup with it; add one" {
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
		return c.Warnings(gaps)
	}
	want := path + " can be read by every user and holds secrets: chmod 640 it, or move the addresses to " +
		"notify.urls_file"
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
