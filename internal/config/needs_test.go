package config

import "testing"

// Keys that need others, or that others exclude.
func TestKeysThatNeedOthers(t *testing.T) {
	refuse(t, []refusal{
		{minimal, "backup.chroma_method = \"freeze\"\nbackup.freeze_command = [\"x\"]",
			`3:24: backup.chroma_method = "freeze" needs freeze_command and thaw_command: set both, e.g. ` +
				`["docker", "pause", "atocore"] and ["docker", "unpause", "atocore"]`},
		{minimal, "backup.chroma_method = \"freeze\"\nbackup.thaw_command = [\"x\"]",
			`3:24: backup.chroma_method = "freeze" needs freeze_command and thaw_command: set both, e.g. ` +
				`["docker", "pause", "atocore"] and ["docker", "unpause", "atocore"]`},
		{minimal, "backup.chroma_method = \"api\"\natocore.api_url = \"http://h\"\nbackup.chroma_fallback = \"freeze\"",
			`5:26: backup.chroma_fallback = "freeze" needs freeze_command and thaw_command: set both, e.g. ` +
				`["docker", "pause", "atocore"] and ["docker", "unpause", "atocore"]`},
		{minimal, "backup.chroma_method = \"api\"\nbackup.chroma_fallback = \"freeze\"",
			`3:24: backup.chroma_method = "api" needs atocore.api_url: set it, e.g. api_url = ` +
				"\"http://127.0.0.1:8100\"\n" +
				`4:26: backup.chroma_fallback = "freeze" needs freeze_command and thaw_command: set both, e.g. ` +
				`["docker", "pause", "atocore"] and ["docker", "unpause", "atocore"]`},
		{minimal, "http.require_token = true",
			"3:22: http.require_token = true needs http.token_file: no write could be allowed: name the " +
				`token's file, e.g. token_file = "/etc/atobackupd/http-token"`},
		{laptop, "encryption.recipients = []",
			"3:1: encryption.recipients is empty, but there are off-site targets: nothing ever leaves in the " +
				`clear: set recipients = ["age1…"]; age-keygen or atobackupd init makes a key`},
		{asked, `url = ""`, "3:3: restore.checks: a check needs url or sql: set one of them"},
		{asked, "body = \"{}\"\nmethod = \"HEAD\"",
			`5:8: restore.checks.body is not sent with method = "HEAD": set method = "POST"`},
		{queried, `url = "http://h/"`,
			"4:7: restore.checks: a check has either url or sql, not both: make two checks of it"},
		{minimal, `backup.freeze_command = [" ", "x"]`,
			`3:1: backup.freeze_command: its first word, the program, is empty: write one such as ["docker", ` +
				`"compose", "down"]`},
		{minimal, `backup.thaw_command = [" ", "x"]`,
			`3:1: backup.thaw_command: its first word, the program, is empty: write one such as ["docker", ` +
				`"compose", "down"]`},
		{minimal, `restore.stop_command = [" ", "x"]`,
			`3:1: restore.stop_command: its first word, the program, is empty: write one such as ["docker", ` +
				`"compose", "down"]`},
		{minimal, `restore.start_command = [" ", "x"]`,
			`3:1: restore.start_command: its first word, the program, is empty: write one such as ["docker", ` +
				`"compose", "down"]`},
		{minimal, `notify.command = [""]`,
			`3:1: notify.command: its first word, the program, is empty: write one such as ["docker", ` +
				`"compose", "down"]`},
		{minimal, `notify.command = [" ", "x"]`,
			`3:1: notify.command: its first word, the program, is empty: write one such as ["docker", ` +
				`"compose", "down"]`},
	})
}

// And with what they need.
func TestKeysWithWhatTheyNeed(t *testing.T) {
	accept(t, []acceptance{
		{minimal,
			"backup.chroma_method = \"freeze\"\nbackup.freeze_command = [\"x\"]\nbackup.thaw_command = [\"y\"]",
			"backup.chroma_method",
			"freeze"},
		{minimal, `backup.chroma_fallback = "freeze"`, "backup.chroma_fallback", "freeze"},
		{minimal, "backup.chroma_method = \"api\"\natocore.api_url = \"http://h//\"", "atocore.api_url", "http://h"},
		{minimal, "http.require_token = true\nhttp.token_file = \"/t\"", "http.require_token", "true"},
		{minimal, "http.listen = \"0.0.0.0:8120\"\nhttp.token_file = \"/t\"", "http.listen", "0.0.0.0:8120"},
		{minimal, `http.listen = ""`, "http.listen", ""},
		{laptop, "append_only = true", "offsite.prune", "false"},
		{laptop, "append_only = true\nprune = false", "offsite.prune", "false"},
		{laptop, "prune = false", "offsite.prune", "false"},
		{asked, "body = \"{}\"\nmethod = \"PUT\"", "restore.checks.body", "{}"},
		{asked, "json = \"n\"\nmin = 1", "restore.checks.min", "1"},
		{queried, `sql = "select count(*) > 0 from memories"`, "restore.checks.status", "0"},
		{minimal, `backup.freeze_command = ["x", ""]`, "backup.freeze_command", "[x ]"},
		{minimal, `backup.thaw_command = ["x", ""]`, "backup.thaw_command", "[x ]"},
		{minimal, `restore.stop_command = ["x", ""]`, "restore.stop_command", "[x ]"},
		{minimal, `restore.start_command = ["x", ""]`, "restore.start_command", "[x ]"},
		{minimal, `notify.command = ["x", ""]`, "notify.command", "[x ]"},
	})
}

// A key or a table that is given twice, however it is written.
func TestGivenTwice(t *testing.T) {
	refuse(t, []refusal{
		{minimal, "log = {level = \"info\"}\nlog.format = \"text\"",
			`4:1: key log is already defined: in the line log.format = "text"`},
		{minimal, "[log]\nlevel = \"info\"\n\"level\" = \"warn\"",
			"5:1: log.level is given twice, first on line 4: keep one of them"},
		{minimal, `log = {level = "info", level = "warn"}`,
			"3:24: log.level is given twice, first on line 3: keep one of them"},
		{minimal, `notify.heartbeats = {full = "https://h/a", full = "https://h/b"}`,
			"3:44: notify.heartbeats.full is given twice, first on line 3: keep one of them"},
		{minimal, "[notify.heartbeats]\n[notify.heartbeats]",
			"4:2: [notify.heartbeats] is given twice, first on line 3: join the two"},
		{minimal, "state_dir = \"/a\"\n\"state_dir\" = \"/b\"",
			"4:1: state_dir is given twice, first on line 3: keep one of them"},
		{laptop, "retention.daily = 1\n[offsite.retention]\nweekly = 1",
			"11:2: table retention already exists as defined by a dotted key: in the line [offsite.retention]"},
		{laptop, "retention = {daily = 1}\nretention.weekly = 2",
			"11:1: key retention is already defined: in the line retention.weekly = 2"},
		{laptop, "prune = true\n\"prune\" = false",
			"11:1: offsite.prune is given twice, first on line 10: keep one of them"},
		{minimal, "backup.min_free = \"1GiB\"\nbackup.min_free= \"2GiB\"",
			"4:1: backup.min_free is given twice, first on line 3: keep one of them"},
		{minimal, `restore.checks = [{sql = "select 1", sql = "select 2"}]`,
			"3:38: restore.checks.sql is given twice, first on line 3: keep one of them"},
	})
}
