package config

import (
	"slices"
	"strings"
	"testing"
)

// Each key's value where the file does not set it. "" has no default: it is required,
// or nothing is there. Keys of targets and checks are those of their own tables.
var defaults = []struct{ key, want string }{
	{"state_dir", "/var/lib/atobackupd"},
	{"atocore.registry_path", ""},
	{"atocore.chroma_path", ""},
	{"atocore.required_tables", "[]"},
	{"atocore.api_url", ""},
	{"atocore.health_url", ""},
	{"backup.min_free", "1GiB"},
	{"backup.chroma_method", "live"},
	{"backup.chroma_fallback", "live"},
	{"backup.chroma_optimistic_tries", "5"},
	{"backup.chroma_lock_deadline", "5m"},
	{"backup.freeze_command", "[]"},
	{"backup.thaw_command", "[]"},
	{"backup.freeze_deadline", "10m"},
	{"backup.atocore_group", ""},
	{"backup.share", "auto"},
	{"schedule.timezone", "UTC"},
	{"schedule.daily", "0 6 * * *"},
	{"schedule.weekly", "0 5 * * 0"},
	{"schedule.monthly", "0 4 1 * *"},
	{"schedule.scrub", "0 3 * * 3"},
	{"schedule.verify", "0 2 * * 6"},
	{"schedule.drill", "0 7 1 1,4,7,10 *"},
	{"schedule.catch_up", "true"},
	{"schedule.scrub_max_bytes", "50GiB"},
	{"schedule.verify_max_bytes", "20GiB"},
	{"schedule.verify_every", "35d"},
	{"schedule.shutdown_timeout", "1m"},
	{"retention.daily", "7"},
	{"retention.weekly", "4"},
	{"retention.monthly", "6"},
	{"retention.keep_within", "2d"},
	{"retention.pre_restore_days", "30"},
	{"retention.suspect_days", "30"},
	{"retention.invalid_days", "7"},
	{"retention.max_delete_fraction", "0.5"},
	{"encryption.recipients", "[]"},
	{"encryption.recipients_file", ""},
	{"encryption.compression", "default"},
	{"restore.stop_command", "[]"},
	{"restore.start_command", "[]"},
	{"restore.health_timeout", "1m"},
	{"drill.queries", "[]"},
	{"alarms.snapshot", "26h"},
	{"alarms.full", "8d"},
	{"alarms.prune", "26h"},
	{"alarms.scrub", "9d"},
	{"alarms.drill", "100d"},
	{"alarms.live_drill", "off"},
	{"alarms.verify", "40d"},
	{"notify.urls", "[]"},
	{"notify.urls_file", ""},
	{"notify.command", "[]"},
	{"notify.digest", ""},
	{"notify.heartbeats", "map[]"},
	{"http.listen", "127.0.0.1:8120"},
	{"http.token_file", ""},
	{"http.require_token", "false"},
	{"log.level", "info"},
	{"log.format", "auto"},
}

func TestDefaults(t *testing.T) {
	def := Default()
	parsed := mustParse(t, with(minimal, "atocore.chroma_path = \"/data/chroma\""))
	missing := keysOfSchema()
	for _, test := range defaults {
		if got := textOf(t, def, test.key); got != test.want {
			t.Errorf("%s is %q by default, want %q", test.key, got, test.want)
		}
		if got := textOf(t, parsed, test.key); got != test.want && test.key != "atocore.chroma_path" {
			t.Errorf("%s is %q where no file sets it, want %q", test.key, got, test.want)
		}
		missing = slices.DeleteFunc(missing, func(key string) bool { return key == test.key })
	}
	required := []string{"atocore.db_path", "backup.dir"}
	missing = slices.DeleteFunc(missing, func(key string) bool {
		return slices.Contains(required, key) || strings.HasPrefix(key, "offsite.") ||
			strings.HasPrefix(key, "restore.checks.")
	})
	if len(missing) > 0 {
		t.Errorf("nothing is said of the defaults of %s", missing)
	}
}

// What a target's keys are where only those that it needs are set: of another
// machine, by its own ssh and by ssh(1), of a disk, and of a bucket.
func TestDefaultsOfTargets(t *testing.T) {
	openssh := with(laptop, "transport = \"openssh\"")
	for _, test := range []struct{ key, sftp, openssh, disk, cloud string }{
		{"type", "sftp", "sftp", "dir", "s3"},
		{"port", "22", "0", "0", "0"},
		{"identity_file", "", "", "", ""},
		{"transport", "builtin", "openssh", "", ""},
		{"connect_timeout", "30s", "30s", "0", "30s"},
		{"removable", "false", "false", "false", "false"},
		{"prefix", "", "", "", ""},
		{"region", "", "", "", "us-east-1"},
		{"lock_for", "off", "off", "off", "30d"},
		{"credentials_file", "", "", "", ""},
		{"bandwidth_limit", "0", "0", "0", "0"},
		{"retry_every", "15m", "15m", "15m", "15m"},
		{"max_age", "8d", "8d", "8d", "8d"},
		{"rebase_ratio", "0.5", "0.5", "0.5", "0.5"},
		{"prune", "true", "true", "true", "true"},
		{"append_only", "false", "false", "false", "false"},
		{"retention.daily", "7", "7", "7", "7"},
		{"retention.weekly", "4", "4", "4", "4"},
		{"retention.monthly", "6", "6", "6", "6"},
		{"retention.keep_within", "2d", "2d", "2d", "2d"},
		{"retention.pre_restore_days", "30", "30", "30", "30"},
		{"retention.suspect_days", "30", "30", "30", "30"},
		{"retention.invalid_days", "7", "7", "7", "7"},
		{"retention.max_delete_fraction", "0.5", "0.5", "0.5", "0.5"},
	} {
		for _, target := range []struct{ text, want string }{
			{laptop, test.sftp}, {openssh, test.openssh}, {disk, test.disk}, {cloud, test.cloud},
		} {
			if got := textOf(t, mustParse(t, target.text), "offsite."+test.key); got != target.want {
				t.Errorf("%s is %q, want %q, of\n%s", test.key, got, target.want, target.text)
			}
		}
	}
}

// A target keeps what [retention] says, key by key, unless it says otherwise.
func TestTargetsInheritRetention(t *testing.T) {
	for key, other := range map[string]string{
		"daily": "70", "weekly": "40", "monthly": "60", "keep_within": "5d", "pre_restore_days": "31",
		"suspect_days": "32", "invalid_days": "8", "max_delete_fraction": "0.25",
	} {
		value := other
		if key == "keep_within" {
			value = `"5d"`
		}
		local := with(minimal, "retention."+key+" = "+value)
		if got := textOf(t, mustParse(t, local+strings.TrimPrefix(laptop, minimal)),
			"offsite.retention."+key); got != other {
			t.Errorf("%s of the target is %s, want %s as in [retention]", key, got, other)
		}
		own := mustParse(t, with(laptop, "retention."+key+" = "+value))
		if got := textOf(t, own, "offsite.retention."+key); got != other {
			t.Errorf("%s of the target is %s, want its own %s", key, got, other)
		}
		if got := textOf(t, own, "retention."+key); got == other {
			t.Errorf("%s of a target is taken for that of [retention]", key)
		}
	}
}
