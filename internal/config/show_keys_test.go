package config

import "testing"

// What Show prints of each key means the same when it is read again, also where
// that is nothing, zero or off beside a default that is something.
func TestShowKeepsEachKey(t *testing.T) {
	for _, test := range []acceptance{
		{minimal, `state_dir = "/s"`, "state_dir", "/s"},
		{minimal, `atocore.db_path = "/d/x.db"`, "atocore.db_path", "/d/x.db"},
		{minimal, `atocore.registry_path = "/r.json"`, "atocore.registry_path", "/r.json"},
		{minimal, `atocore.chroma_path = "/c"`, "atocore.chroma_path", "/c"},
		{minimal, `atocore.required_tables = ["memories", "a\"b"]`, "atocore.required_tables", `[memories a"b]`},
		{minimal, `atocore.api_url = "https://h:8100"`, "atocore.api_url", "https://h:8100"},
		{minimal, `atocore.health_url = "http://h/health/x=1"`, "atocore.health_url", "http://h/health/x=1"},
		{minimal, `backup.dir = "/b b"`, "backup.dir", "/b b"},
		{minimal, "backup.min_free = 1500", "backup.min_free", "1500"},
		{minimal, `backup.chroma_method = "cold"`, "backup.chroma_method", "cold"},
		{minimal, `backup.chroma_fallback = "btrfs"`, "backup.chroma_fallback", "btrfs"},
		{minimal, "backup.chroma_optimistic_tries = 0", "backup.chroma_optimistic_tries", "0"},
		{minimal, `backup.chroma_lock_deadline = "90s"`, "backup.chroma_lock_deadline", "90s"},
		{minimal, `backup.freeze_command = ["docker", "pause", "it's"]`, "backup.freeze_command",
			"[docker pause it's]"},
		{minimal, `backup.thaw_command = ["sh", "-c", "a\tb"]`, "backup.thaw_command", "[sh -c a\tb]"},
		{minimal, `backup.freeze_deadline = "1h30m"`, "backup.freeze_deadline", "90m"},
		{minimal, `backup.atocore_group = "1000"`, "backup.atocore_group", "1000"},
		{minimal, `backup.share = "copy"`, "backup.share", "copy"},
		{minimal, `schedule.timezone = "Europe/Berlin"`, "schedule.timezone", "Europe/Berlin"},
		{minimal, `schedule.daily = ""`, "schedule.daily", ""},
		{minimal, `schedule.weekly = "@weekly"`, "schedule.weekly", "@weekly"},
		{minimal, `schedule.monthly = "@every 720h"`, "schedule.monthly", "@every 720h"},
		{minimal, `schedule.scrub = "1 3 * * 3"`, "schedule.scrub", "1 3 * * 3"},
		{minimal, `schedule.verify = "1 2 * * 6"`, "schedule.verify", "1 2 * * 6"},
		{minimal, `schedule.drill = "@monthly"`, "schedule.drill", "@monthly"},
		{minimal, "schedule.catch_up = false", "schedule.catch_up", "false"},
		{minimal, `schedule.scrub_max_bytes = "0"`, "schedule.scrub_max_bytes", "0"},
		{minimal, `schedule.verify_max_bytes = "1TiB"`, "schedule.verify_max_bytes", "1TiB"},
		{minimal, `schedule.verify_every = "5w"`, "schedule.verify_every", "35d"},
		{minimal, `schedule.shutdown_timeout = "250ms"`, "schedule.shutdown_timeout", "250ms"},
		{minimal, "retention.daily = 0", "retention.daily", "0"},
		{minimal, "retention.weekly = 5", "retention.weekly", "5"},
		{minimal, "retention.monthly = 12", "retention.monthly", "12"},
		{minimal, `retention.keep_within = "0"`, "retention.keep_within", "0"},
		{minimal, "retention.pre_restore_days = 1", "retention.pre_restore_days", "1"},
		{minimal, "retention.suspect_days = 2", "retention.suspect_days", "2"},
		{minimal, "retention.invalid_days = 3", "retention.invalid_days", "3"},
		{minimal, "retention.max_delete_fraction = 1", "retention.max_delete_fraction", "1"},
		{minimal, `encryption.recipients = ["ssh-ed25519 AAAA me@h"]`, "encryption.recipients",
			"[ssh-ed25519 AAAA me@h]"},
		{minimal, `encryption.recipients_file = "/r"`, "encryption.recipients_file", "/r"},
		{minimal, `encryption.compression = "better"`, "encryption.compression", "better"},
		{minimal, `restore.stop_command = ["docker", "compose", "down"]`, "restore.stop_command",
			"[docker compose down]"},
		{minimal, `restore.start_command = ["docker", "compose", "up", "-d"]`, "restore.start_command",
			"[docker compose up -d]"},
		{minimal, `restore.health_timeout = "2m"`, "restore.health_timeout", "2m"},
		{minimal, `drill.queries = ["select 1 = '1'"]`, "drill.queries", "[select 1 = '1']"},
		{minimal, `alarms.snapshot = "off"`, "alarms.snapshot", "off"},
		{minimal, `alarms.full = "10d"`, "alarms.full", "10d"},
		{minimal, `alarms.prune = "2d"`, "alarms.prune", "2d"},
		{minimal, `alarms.scrub = "off"`, "alarms.scrub", "off"},
		{minimal, `alarms.drill = "200d"`, "alarms.drill", "200d"},
		{minimal, `alarms.live_drill = "30d"`, "alarms.live_drill", "30d"},
		{minimal, `alarms.verify = "off"`, "alarms.verify", "off"},
		{minimal, `notify.urls_file = "/u"`, "notify.urls_file", "/u"},
		{minimal, `notify.command = ["/bin/tell", "ops"]`, "notify.command", "[/bin/tell ops]"},
		{minimal, `notify.digest = "0 8 * * 1"`, "notify.digest", "0 8 * * 1"},
		{minimal, `http.listen = ""`, "http.listen", ""},
		{minimal, `http.token_file = "/t"`, "http.token_file", "/t"},
		{minimal, `log.level = "debug"`, "log.level", "debug"},
		{minimal, `log.format = "json"`, "log.format", "json"},
		{laptop, `name = "other"`, "offsite.name", "other"},
		{laptop, `hosts = ["a", "b"]`, "offsite.hosts", "[a b]"},
		{laptop, "port = 2222", "offsite.port", "2222"},
		{laptop, `user = "me"`, "offsite.user", "me"},
		{laptop, `identity_file = "/k"`, "offsite.identity_file", "/k"},
		{laptop, `known_hosts = "/k"`, "offsite.known_hosts", "/k"},
		{laptop, `path = "/v"`, "offsite.path", "/v"},
		{laptop, `transport = "openssh"`, "offsite.transport", "openssh"},
		{laptop, `connect_timeout = "5s"`, "offsite.connect_timeout", "5s"},
		{laptop, `bandwidth_limit = "2MiB"`, "offsite.bandwidth_limit", "2MiB"},
		{laptop, `retry_every = "1h"`, "offsite.retry_every", "1h"},
		{laptop, `max_age = "off"`, "offsite.max_age", "off"},
		{laptop, "rebase_ratio = 0.75", "offsite.rebase_ratio", "0.75"},
		{laptop, "prune = false", "offsite.prune", "false"},
		{laptop, "append_only = true", "offsite.append_only", "true"},
		{laptop, "retention.daily = 14", "offsite.retention.daily", "14"},
		{laptop, `retention.keep_within = "0"`, "offsite.retention.keep_within", "0"},
		{laptop, "retention.max_delete_fraction = 0.1", "offsite.retention.max_delete_fraction", "0.1"},
		{disk, "removable = true", "offsite.removable", "true"},
		{cloud, `endpoint = "http://127.0.0.1:9000"`, "offsite.endpoint", "http://127.0.0.1:9000"},
		{cloud, `bucket = "other"`, "offsite.bucket", "other"},
		{cloud, `prefix = "a/b"`, "offsite.prefix", "a/b"},
		{cloud, `region = "eu"`, "offsite.region", "eu"},
		{cloud, `lock_for = "off"`, "offsite.lock_for", "off"},
		{cloud, `credentials_file = "/c"`, "offsite.credentials_file", "/c"},
		{asked, `method = "POST"`, "restore.checks.method", "POST"},
		{asked, "method = \"PUT\"\nbody = '{\"prompt\": \"x\"}'", "restore.checks.body", `{"prompt": "x"}`},
		{asked, "status = 204", "restore.checks.status", "204"},
		{asked, `json = "stats.n"`, "restore.checks.json", "stats.n"},
		{asked, "json = \"n\"\nmin = -2.5", "restore.checks.min", "-2.5"},
		{queried, `sql = "select 'a' || \"b\""`, "restore.checks.sql", `select 'a' || "b"`},
		{minimal, "http.token_file = \"/t\"\nhttp.require_token = true", "http.require_token", "true"},
	} {
		c := mustParse(t, with(test.base, test.line))
		if got := textOf(t, c, test.key); got != test.want {
			t.Errorf("%s: %s is %q, want %q", test.line, test.key, got, test.want)
		}
		shown, err := c.Show()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse("shown", shown)
		if err != nil {
			t.Errorf("%s: what is shown is refused: %v\n%s", test.line, err, shown)
			continue
		}
		if got := textOf(t, again, test.key); got != test.want {
			t.Errorf("%s: shown, %s is %q, want %q", test.line, test.key, got, test.want)
		}
		equal(t, again, c)
	}
}
