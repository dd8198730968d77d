package config

import (
	"strings"
	"testing"
)

func TestShowHidesSecrets(t *testing.T) {
	const heartbeats = `
[notify.heartbeats]
snapshot = "https://hc-ping.com/hunter2"
"offsite:laptop" = "https://hunter2@hc-ping.com/?key=hunter2#hunter2"
[[restore.checks]]
url = "http://me:hunter2@127.0.0.1:8100/stats"
`
	text := strings.Replace(quiet, "[\"ntfy", "[\"pushbullet://hunter2/x\", "+
		"\"telegram://hunter2@telegram?chats=1\", \"smtp://me:hunter2@mail.example:25/?to=x\", \"ntfy", 1)
	text = strings.Replace(text, "db_path", "health_url = "+
		"\"http://me:hunter2@127.0.0.1:8100/health?token=hunter2\"\napi_url = \"http://hunter2@127.0.0.1:8100\"\ndb_path", 1)
	text = strings.Replace(text, "[backup]", "[backup]\nfreeze_command = ['say', \"it's\", '\"cold\"']", 1)
	c := mustParse(t, text+heartbeats)
	shown, err := c.Show()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(shown), "hunter2") {
		t.Errorf("prints a secret:\n%s", shown)
	}
	for _, want := range []string{
		`"pushbullet://…"`, `"telegram://…"`, `"smtp://mail.example:25/…"`, `"ntfy://ntfy.sh/…"`,
		`snapshot = "https://hc-ping.com/…"`, `"http://127.0.0.1:8100/health?…"`, `"http://127.0.0.1:8100/stats"`,
		`min_free = "1GiB"`, `max_age = "8d"`, `freeze_command = ["say", "it's", '"cold"'`,
	} {
		if !strings.Contains(string(shown), want) {
			t.Errorf("lacks %s:\n%s", want, shown)
		}
	}
	if c.Notify.URLs[0] != "pushbullet://hunter2/x" ||
		c.Notify.Heartbeats["snapshot"] != "https://hc-ping.com/hunter2" ||
		!strings.Contains(c.Restore.Checks[0].URL, "hunter2") {
		t.Error("Show has changed the configuration")
	}
}
