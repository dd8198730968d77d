package config

import "testing"

// Beyond the least and the greatest value of each key.
func TestOutOfRange(t *testing.T) {
	refuse(t, []refusal{
		{minimal, "retention.suspect_days = -1", "3:26: retention.suspect_days = -1: must be at least 0"},
		{minimal, `backup.chroma_lock_deadline = ""`,
			`3:31: backup.chroma_lock_deadline = "0": must be longer than nothing: write one such as "5m"`},
		{minimal, `backup.freeze_deadline = ""`,
			`3:26: backup.freeze_deadline = "0": must be longer than nothing: write one such as "5m"`},
		{minimal, `schedule.verify_every = ""`,
			`3:25: schedule.verify_every = "0": must be longer than nothing: write one such as "5m"`},
		{minimal, `schedule.shutdown_timeout = ""`,
			`3:29: schedule.shutdown_timeout = "0": must be longer than nothing: write one such as "5m"`},
		{minimal, `restore.health_timeout = ""`,
			`3:26: restore.health_timeout = "0": must be longer than nothing: write one such as "5m"`},
		{laptop, `connect_timeout = "0s"`,
			`10:19: offsite.connect_timeout = "0": must be longer than nothing: write one such as "5m"`},
		{laptop, `retry_every = "0s"`,
			`10:15: offsite.retry_every = "0": must be longer than nothing: write one such as "5m"`},
		{cloud, `connect_timeout = ""`,
			`9:19: offsite.connect_timeout = "0": must be longer than nothing: write one such as "5m"`},
		{minimal, "retention.max_delete_fraction = 1.01",
			"3:33: retention.max_delete_fraction = 1.01: must be above 0 and at most 1: 0.5 holds a prune that " +
				"would delete more than half"},
		{minimal, "retention.max_delete_fraction = -0.5",
			"3:33: retention.max_delete_fraction = -0.5: must be above 0 and at most 1: 0.5 holds a prune that " +
				"would delete more than half"},
		{minimal, "retention.max_delete_fraction = inf",
			"3:33: retention.max_delete_fraction = +Inf: must be above 0 and at most 1: 0.5 holds a prune that " +
				"would delete more than half"},
		{laptop, "rebase_ratio = 10.1",
			"10:16: offsite.rebase_ratio = 10.1: must be above 0 and at most 10: 0.5 is a good one"},
		{laptop, "rebase_ratio = nan",
			"10:16: offsite.rebase_ratio = NaN: must be above 0 and at most 10: 0.5 is a good one"},
		{laptop, "port = 65536",
			"10:8: offsite.port = 65536: must be 1 to 65535: ssh listens on 22 unless told otherwise"},
		{laptop, "port = -1", "10:8: offsite.port = -1: must be 1 to 65535: ssh listens on 22 unless told otherwise"},
		{laptop, "transport = \"openssh\"\nport = -1",
			"11:8: offsite.port = -1: must be 1 to 65535: ssh listens on 22 unless told otherwise"},
		{laptop, "retention.daily = -1", "10:19: offsite.retention.daily = -1: must be at least 0"},
		{laptop, "retention.weekly = -1", "10:20: offsite.retention.weekly = -1: must be at least 0"},
		{laptop, "retention.monthly = -1", "10:21: offsite.retention.monthly = -1: must be at least 0"},
		{laptop, "retention.pre_restore_days = -1",
			"10:30: offsite.retention.pre_restore_days = -1: must be at least 0"},
		{laptop, "retention.suspect_days = -1", "10:26: offsite.retention.suspect_days = -1: must be at least 0"},
		{laptop, "retention.invalid_days = -1", "10:26: offsite.retention.invalid_days = -1: must be at least 0"},
		{asked, "status = 99", "5:10: restore.checks.status = 99: no HTTP status: 200 is what a healthy answer has"},
		{asked, "status = 600", "5:10: restore.checks.status = 600: no HTTP status: 200 is what a healthy answer has"},
		{minimal, `http.listen = "127.0.0.1:65536"`,
			`3:15: http.listen = "127.0.0.1:65536": not a host and a port: write an address and a port, e.g. ` +
				`"127.0.0.1:8120", or "" to turn HTTP off`},
		{minimal, `http.listen = "127.0.0.1:-1"`,
			`3:15: http.listen = "127.0.0.1:-1": not a host and a port: write an address and a port, e.g. ` +
				`"127.0.0.1:8120", or "" to turn HTTP off`},
		{minimal, `http.listen = "127.0.0.1"`,
			`3:15: http.listen = "127.0.0.1": not a host and a port: write an address and a port, e.g. ` +
				`"127.0.0.1:8120", or "" to turn HTTP off`},
		{minimal, `http.listen = "127.0.0.1:http"`,
			`3:15: http.listen = "127.0.0.1:http": not a host and a port: write an address and a port, e.g. ` +
				`"127.0.0.1:8120", or "" to turn HTTP off`},
		{minimal, `http.listen = "[::]:8120"`,
			`3:15: http.listen = "[::]:8120": reachable from other machines without a token: set ` +
				`http.token_file, or listen on "127.0.0.1:8120"`},
		{minimal, `http.listen = "dalidou:8120"`,
			`3:15: http.listen = "dalidou:8120": reachable from other machines without a token: set ` +
				`http.token_file, or listen on "127.0.0.1:8120"`},
		{minimal, `http.listen = "100.64.0.1:8120"`,
			`3:15: http.listen = "100.64.0.1:8120": reachable from other machines without a token: set ` +
				`http.token_file, or listen on "127.0.0.1:8120"`},
		{minimal, `backup.atocore_group = "Docker"`,
			`3:24: backup.atocore_group = "Docker": no group: write a name or a number, e.g. "1000"`},
		{minimal, `backup.atocore_group = "-1"`,
			`3:24: backup.atocore_group = "-1": no group: write a name or a number, e.g. "1000"`},
		{minimal, `backup.atocore_group = "a b"`,
			`3:24: backup.atocore_group = "a b": no group: write a name or a number, e.g. "1000"`},
		{minimal, `backup.atocore_group = "12345678901"`,
			`3:24: backup.atocore_group = "12345678901": no group: write a name or a number, e.g. "1000"`},
		{laptop, "retention.max_delete_fraction = 0",
			"10:33: offsite.retention.max_delete_fraction = 0: must be above 0 and at most 1: 0.5 holds a " +
				"prune that would delete more than half"},
		{laptop, "retention.max_delete_fraction = 1.01",
			"10:33: offsite.retention.max_delete_fraction = 1.01: must be above 0 and at most 1: 0.5 holds a " +
				"prune that would delete more than half"},
		{laptop, "retention.max_delete_fraction = -0.5",
			"10:33: offsite.retention.max_delete_fraction = -0.5: must be above 0 and at most 1: 0.5 holds a " +
				"prune that would delete more than half"},
		{laptop, "retention.max_delete_fraction = inf",
			"10:33: offsite.retention.max_delete_fraction = +Inf: must be above 0 and at most 1: 0.5 holds a " +
				"prune that would delete more than half"},
	})
}

// The least and the greatest value of each key.
func TestAtTheEdge(t *testing.T) {
	accept(t, []acceptance{
		{minimal, "backup.chroma_optimistic_tries = 0", "backup.chroma_optimistic_tries", "0"},
		{minimal, "retention.daily = 0", "retention.daily", "0"},
		{minimal, "retention.weekly = 0", "retention.weekly", "0"},
		{minimal, "retention.monthly = 0", "retention.monthly", "0"},
		{minimal, "retention.pre_restore_days = 0", "retention.pre_restore_days", "0"},
		{minimal, "retention.suspect_days = 0", "retention.suspect_days", "0"},
		{minimal, "retention.invalid_days = 0", "retention.invalid_days", "0"},
		{minimal, `backup.chroma_lock_deadline = "1ms"`, "backup.chroma_lock_deadline", "1ms"},
		{minimal, `backup.freeze_deadline = "1ms"`, "backup.freeze_deadline", "1ms"},
		{minimal, `schedule.verify_every = "1ms"`, "schedule.verify_every", "1ms"},
		{minimal, `schedule.shutdown_timeout = "1ms"`, "schedule.shutdown_timeout", "1ms"},
		{minimal, `restore.health_timeout = "1ms"`, "restore.health_timeout", "1ms"},
		{laptop, `connect_timeout = "1ms"`, "offsite.connect_timeout", "1ms"},
		{laptop, `retry_every = "1ms"`, "offsite.retry_every", "1ms"},
		{cloud, `connect_timeout = "1ms"`, "offsite.connect_timeout", "1ms"},
		{minimal, "retention.max_delete_fraction = 1", "retention.max_delete_fraction", "1"},
		{minimal, "retention.max_delete_fraction = 0.001", "retention.max_delete_fraction", "0.001"},
		{laptop, "rebase_ratio = 10", "offsite.rebase_ratio", "10"},
		{laptop, "rebase_ratio = 0.01", "offsite.rebase_ratio", "0.01"},
		{laptop, "port = 1", "offsite.port", "1"},
		{laptop, "port = 65535", "offsite.port", "65535"},
		{laptop, "transport = \"openssh\"\nport = 0", "offsite.port", "0"},
		{laptop, "retention.daily = 0", "offsite.retention.daily", "0"},
		{laptop, "retention.weekly = 0", "offsite.retention.weekly", "0"},
		{laptop, "retention.monthly = 0", "offsite.retention.monthly", "0"},
		{laptop, "retention.pre_restore_days = 0", "offsite.retention.pre_restore_days", "0"},
		{laptop, "retention.suspect_days = 0", "offsite.retention.suspect_days", "0"},
		{laptop, "retention.invalid_days = 0", "offsite.retention.invalid_days", "0"},
		{asked, "status = 100", "restore.checks.status", "100"},
		{asked, "status = 599", "restore.checks.status", "599"},
		{asked, "json = \"n\"\nmin = -0.5", "restore.checks.min", "-0.5"},
		{minimal, `http.listen = "127.0.0.1:0"`, "http.listen", "127.0.0.1:0"},
		{minimal, `http.listen = "127.0.0.1:65535"`, "http.listen", "127.0.0.1:65535"},
		{minimal, `http.listen = "[::1]:8120"`, "http.listen", "[::1]:8120"},
		{minimal, `http.listen = "localhost:8120"`, "http.listen", "localhost:8120"},
		{minimal, `http.listen = "127.9.9.9:8120"`, "http.listen", "127.9.9.9:8120"},
		{minimal, `backup.atocore_group = "1000"`, "backup.atocore_group", "1000"},
		{minimal, `backup.atocore_group = "_ato.core-1"`, "backup.atocore_group", "_ato.core-1"},
		{laptop, "retention.max_delete_fraction = 1", "offsite.retention.max_delete_fraction", "1"},
		{laptop, "retention.max_delete_fraction = 0.001", "offsite.retention.max_delete_fraction", "0.001"},
	})
}

// What can be turned off, or is without a bound at nothing; and what its values become.
func TestNothingAndOff(t *testing.T) {
	accept(t, []acceptance{
		{minimal, `retention.keep_within = "0"`, "retention.keep_within", "0"},
		{minimal, `backup.min_free = "0"`, "backup.min_free", "0"},
		{minimal, `backup.min_free = ""`, "backup.min_free", "0"},
		{minimal, "backup.min_free = 4096", "backup.min_free", "4KiB"},
		{minimal, `schedule.scrub_max_bytes = "0"`, "schedule.scrub_max_bytes", "0"},
		{minimal, `schedule.scrub_max_bytes = ""`, "schedule.scrub_max_bytes", "0"},
		{minimal, "schedule.scrub_max_bytes = 4096", "schedule.scrub_max_bytes", "4KiB"},
		{minimal, `schedule.verify_max_bytes = "0"`, "schedule.verify_max_bytes", "0"},
		{minimal, `schedule.verify_max_bytes = ""`, "schedule.verify_max_bytes", "0"},
		{minimal, "schedule.verify_max_bytes = 4096", "schedule.verify_max_bytes", "4KiB"},
		{laptop, `bandwidth_limit = ""`, "offsite.bandwidth_limit", "0"},
		{laptop, `bandwidth_limit = "512KiB"`, "offsite.bandwidth_limit", "512KiB"},
		{laptop, `max_age = "off"`, "offsite.max_age", "off"},
		{laptop, `max_age = "2w"`, "offsite.max_age", "14d"},
		{laptop, `retention.keep_within = "0"`, "offsite.retention.keep_within", "0"},
		{cloud, `lock_for = "off"`, "offsite.lock_for", "off"},
		{cloud, `lock_for = "1d12h"`, "offsite.lock_for", "36h"},
		{minimal, `alarms.snapshot = "off"`, "alarms.snapshot", "off"},
		{minimal, `alarms.full = "off"`, "alarms.full", "off"},
		{minimal, `alarms.prune = "off"`, "alarms.prune", "off"},
		{minimal, `alarms.scrub = "off"`, "alarms.scrub", "off"},
		{minimal, `alarms.drill = "off"`, "alarms.drill", "off"},
		{minimal, `alarms.live_drill = "off"`, "alarms.live_drill", "off"},
		{minimal, `alarms.verify = "off"`, "alarms.verify", "off"},
		{minimal, `schedule.daily = ""`, "schedule.daily", ""},
		{minimal, `schedule.weekly = ""`, "schedule.weekly", ""},
		{minimal, `schedule.monthly = ""`, "schedule.monthly", ""},
		{minimal, `schedule.scrub = ""`, "schedule.scrub", ""},
		{minimal, `schedule.verify = ""`, "schedule.verify", ""},
		{minimal, `schedule.drill = ""`, "schedule.drill", ""},
		{minimal, `schedule.timezone = "Europe/Berlin"`, "schedule.timezone", "Europe/Berlin"},
	})
}

func TestTimezones(t *testing.T) {
	refuse(t, []refusal{
		{minimal, `schedule.timezone = "Local"`,
			`3:21: schedule.timezone = "Local": no such time zone: write an IANA name such as "Europe/Berlin", ` +
				`or "UTC"`},
		{minimal, `schedule.timezone = "CEST"`,
			`3:21: schedule.timezone = "CEST": no such time zone: write an IANA name such as "Europe/Berlin", ` +
				`or "UTC"`},
		{minimal, `schedule.timezone = "UTC+2"`,
			`3:21: schedule.timezone = "UTC+2": no such time zone: write an IANA name such as "Europe/Berlin", ` +
				`or "UTC"`},
		{minimal, `schedule.timezone = "../etc/passwd"`,
			`3:21: schedule.timezone = "../etc/passwd": no such time zone: write an IANA name such as ` +
				`"Europe/Berlin", or "UTC"`},
	})
}
