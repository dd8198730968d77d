package config

import "testing"

// A key that stands in the wrong table, or that nothing is like.
func TestKeysElsewhere(t *testing.T) {
	refuse(t, []refusal{
		{minimal, `db_path = "/d"`, `3:1: unknown key "db_path": db_path belongs to [atocore]`},
		{minimal, `dir = "/b"`, `3:1: unknown key "dir": dir belongs to [backup]`},
		{minimal, `timezone = "UTC"`, `3:1: unknown key "timezone": timezone belongs to [schedule]`},
		{minimal, "recipients = []", `3:1: unknown key "recipients": recipients belongs to [encryption]`},
		{minimal, `http.level = "info"`, `3:6: unknown key "http.level": level belongs to [log]`},
		{minimal, `log.listen = ""`, `3:5: unknown key "log.listen": listen belongs to [http]`},
		{minimal, `backup.db_path = "/d"`, `3:8: unknown key "backup.db_path": db_path belongs to [atocore]`},
		{minimal, `atocore.dir = "/b"`, `3:9: unknown key "atocore.dir": dir belongs to [backup]`},
		{minimal, `schedule.keep_within = "48h"`,
			`3:10: unknown key "schedule.keep_within": keep_within belongs to [retention] or to ` +
				"[offsite.retention]"},
		{minimal, `alarms.max_age = "8d"`, `3:8: unknown key "alarms.max_age": max_age belongs to [[offsite]]`},
		{minimal, `alarms.daily = "26h"`,
			`3:8: unknown key "alarms.daily": daily belongs to [schedule] or to [retention] or to ` +
				"[offsite.retention]"},
		{minimal, `notify.listen = ""`, `3:8: unknown key "notify.listen": listen belongs to [http]`},
		{minimal, "drill.checks = []", `3:7: unknown key "drill.checks": checks belongs to [restore]`},
		{minimal, `drill.sql = "select 1"`, `3:7: unknown key "drill.sql": sql belongs to [[restore.checks]]`},
		{minimal, "restore.queries = []", `3:9: unknown key "restore.queries": queries belongs to [drill]`},
		{minimal, `backup.timezone = "UTC"`, `3:8: unknown key "backup.timezone": timezone belongs to [schedule]`},
		{minimal, "encryption.urls = []", `3:12: unknown key "encryption.urls": urls belongs to [notify]`},
		{minimal, `retention.url = ""`, `3:11: unknown key "retention.url": url belongs to [[restore.checks]]`},
		{laptop, `recipients = ["age1x"]`,
			`10:1: unknown key "offsite.recipients": recipients belongs to [encryption]`},
		{laptop, "urls = []", `10:1: unknown key "offsite.urls": urls belongs to [notify]`},
		{minimal, "backup.wibble = 1",
			`3:8: unknown key "backup.wibble": the keys here are dir, min_free, chroma_method, ` +
				"chroma_fallback, chroma_optimistic_tries, chroma_lock_deadline, freeze_command, thaw_command, " +
				"freeze_deadline, atocore_group, share"},
		{minimal, "drill.wibble = 1", `3:7: unknown key "drill.wibble": the keys here are queries`},
		{minimal, "log.rotate = 1", `3:5: unknown key "log.rotate": the keys here are level, format`},
		{minimal, "state = 1", `3:1: unknown key "state": did you mean "state_dir"?`},
		{minimal, `encryption.passphrase = "hunter2"`,
			`3:12: unknown key "encryption.passphrase": the keys here are recipients, recipients_file, ` +
				"compression"},
	})
}

// Tables that nobody knows, and headers of the wrong kind.
func TestUnknownTables(t *testing.T) {
	refuse(t, []refusal{
		{minimal, "[back_up]", `3:2: unknown table [back_up]: did you mean "backup"?`},
		{minimal, "[Schedule]", `3:2: unknown table [Schedule]: did you mean "schedule"?`},
		{minimal, "[retentions]", `3:2: unknown table [retentions]: did you mean "retention"?`},
		{minimal, "[[offsits]]", `3:3: unknown table [offsits]: did you mean "offsite"?`},
		{minimal, "[alarm]", `3:2: unknown table [alarm]: did you mean "alarms"?`},
		{minimal, "[notifications]",
			"3:2: unknown table [notifications]: the keys here are state_dir, atocore, backup, schedule, " +
				"retention, encryption, offsite, restore, drill, alarms, notify, http, log"},
		{minimal, "[logging]", `3:2: unknown table [logging]: did you mean "log"?`},
		{minimal, "[https]", `3:2: unknown table [https]: did you mean "http"?`},
		{minimal, "[drills]", `3:2: unknown table [drills]: did you mean "drill"?`},
		{minimal, "[encrypt]", `3:2: unknown table [encrypt]: did you mean "encryption"?`},
		{minimal, "[wibble]",
			"3:2: unknown table [wibble]: the keys here are state_dir, atocore, backup, schedule, retention, " +
				"encryption, offsite, restore, drill, alarms, notify, http, log"},
		{minimal, "[restore.check]", `3:10: unknown table [restore.check]: did you mean "checks"?`},
		{minimal, "[[restore.checkss]]", `3:11: unknown table [restore.checkss]: did you mean "checks"?`},
		{minimal, "[laptop]",
			"3:2: unknown table [laptop]: the keys here are state_dir, atocore, backup, schedule, retention, " +
				"encryption, offsite, restore, drill, alarms, notify, http, log"},
		{minimal, "[offsite.laptop]",
			"3:10: a table of [[offsite]] comes before any [[offsite]]: put it below the [[offsite]] that it " +
				"is for"},
		{minimal, "[[notify.heartbeats]]", "3:3: there is only one [notify.heartbeats]: write [notify.heartbeats]"},
		{minimal, "[restore.checks]", "3:2: [restore.checks] may be there several times: write [[restore.checks]]"},
		{minimal, "[offsite.retention]",
			"3:10: a table of [[offsite]] comes before any [[offsite]]: put it below the [[offsite]] that it " +
				"is for"},
		{minimal, "[notify.heartbeat]", `3:9: unknown table [notify.heartbeat]: did you mean "heartbeats"?`},
		{laptop, "[offsite.retentions]", `10:10: unknown table [offsite.retentions]: did you mean "retention"?`},
		{laptop, "[offsite.alarms]",
			"10:10: unknown table [offsite.alarms]: the keys here are name, type, hosts, port, user, " +
				"identity_file, known_hosts, transport, path, connect_timeout, removable, endpoint, bucket, " +
				"prefix, region, lock_for, credentials_file, bandwidth_limit, retry_every, max_age, rebase_ratio, " +
				"prune, append_only, retention"},
		{laptop, "[offsite.retention.daily]",
			"10:2: offsite.retention.daily is a value, not a table: write it as daily = …"},
	})
}
