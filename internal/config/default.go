package config

import (
	"strings"
	"time"

	"github.com/atocore/atobackupd/snapshot/chroma"
)

// Default returns every default, without the two keys that have none
// (AtoCore.DBPath and Backup.Dir) and without targets. What depends on other
// keys has the value that it has beside their defaults, but for the weekly and
// monthly schedules, which are set: clear them where there is no
// AtoCore.ChromaPath.
func Default() *Config {
	return &Config{
		StateDir: "/var/lib/atobackupd",
		Backup: Backup{
			MinFree:               1 << 30,
			ChromaMethod:          chroma.MethodLive,
			ChromaFallback:        chroma.MethodLive,
			ChromaOptimisticTries: 5,
			ChromaLockDeadline:    Duration(5 * time.Minute),
			FreezeDeadline:        Duration(10 * time.Minute),
			Share:                 "auto",
		},
		Schedule: Schedule{
			Timezone:        "UTC",
			Daily:           "0 6 * * *",
			Weekly:          "0 5 * * 0",
			Monthly:         "0 4 1 * *",
			Scrub:           "0 3 * * 3",
			Verify:          "0 2 * * 6",
			Drill:           "0 7 1 1,4,7,10 *",
			CatchUp:         true,
			ScrubMaxBytes:   50 << 30,
			VerifyMaxBytes:  20 << 30,
			VerifyEvery:     Duration(35 * day),
			ShutdownTimeout: Duration(time.Minute),
		},
		Retention: Retention{
			Daily: 7, Weekly: 4, Monthly: 6, KeepWithin: Duration(48 * time.Hour),
			PreRestoreDays: 30, SuspectDays: 30, InvalidDays: 7, MaxDeleteFraction: 0.5,
		},
		Encryption: Encryption{Compression: "default"},
		Restore:    Restore{HealthTimeout: Duration(time.Minute)},
		Alarms: Alarms{
			Snapshot: Limit(26 * time.Hour),
			Full:     Limit(8 * day),
			Prune:    Limit(26 * time.Hour),
			Scrub:    Limit(9 * day),
			Drill:    Limit(100 * day),
			Verify:   Limit(40 * day),
		},
		HTTP: HTTP{Listen: "127.0.0.1:8120"},
		Log:  Log{Level: "info", Format: "auto"},
	}
}

const day = 24 * time.Hour // the unit "d" of a Duration

// settle fills in what the file leaves out and what depends on its other keys,
// and writes paths and the API's address the short way.
func (c *Config) settle() {
	if c.AtoCore.ChromaPath == "" {
		settle(c, "schedule.weekly", &c.Schedule.Weekly, "")
		settle(c, "schedule.monthly", &c.Schedule.Monthly, "")
	}
	if len(c.Restore.StopCommand) > 0 {
		settle(c, "alarms.live_drill", &c.Alarms.LiveDrill, Limit(100*day))
	}
	for i := range c.Offsite {
		c.settleTarget(&c.Offsite[i], element("offsite", i)+".")
	}
	for i := range c.Restore.Checks {
		check := &c.Restore.Checks[i]
		if check.URL == "" {
			continue
		}
		key := element("restore.checks", i) + "."
		settle(c, key+"method", &check.Method, "GET")
		settle(c, key+"status", &check.Status, 200)
	}
	c.AtoCore.APIURL = strings.TrimRight(c.AtoCore.APIURL, "/")
	for _, p := range c.paths() {
		*p.value = tidy(*p.value)
	}
}

func (c *Config) settleTarget(t *Target, key string) {
	settle(c, key+"type", &t.Type, "sftp")
	if t.Type == "sftp" {
		settle(c, key+"transport", &t.Transport, "builtin")
	}
	if t.Type == "sftp" && t.Transport != "openssh" {
		settle(c, key+"port", &t.Port, 22)
	}
	if t.Type != "dir" {
		settle(c, key+"connect_timeout", &t.ConnectTimeout, Duration(30*time.Second))
	}
	if t.Type == "s3" {
		t.Prefix = strings.Trim(t.Prefix, "/")
		settle(c, key+"region", &t.Region, "us-east-1")
		settle(c, key+"lock_for", &t.LockFor, Limit(30*day))
	}
	settle(c, key+"retry_every", &t.RetryEvery, Duration(15*time.Minute))
	settle(c, key+"max_age", &t.MaxAge, Limit(8*day))
	settle(c, key+"rebase_ratio", &t.RebaseRatio, 0.5)
	settle(c, key+"prune", &t.Prune, !t.AppendOnly)

	r, local := &t.Retention, c.Retention
	settle(c, key+"retention.daily", &r.Daily, local.Daily)
	settle(c, key+"retention.weekly", &r.Weekly, local.Weekly)
	settle(c, key+"retention.monthly", &r.Monthly, local.Monthly)
	settle(c, key+"retention.keep_within", &r.KeepWithin, local.KeepWithin)
	settle(c, key+"retention.pre_restore_days", &r.PreRestoreDays, local.PreRestoreDays)
	settle(c, key+"retention.suspect_days", &r.SuspectDays, local.SuspectDays)
	settle(c, key+"retention.invalid_days", &r.InvalidDays, local.InvalidDays)
	settle(c, key+"retention.max_delete_fraction", &r.MaxDeleteFraction, local.MaxDeleteFraction)
}

// settle sets the value of a key that the file does not set.
func settle[T any](c *Config, key string, value *T, def T) {
	if !c.given(key) {
		*value = def
	}
}

// given reports whether the file sets key itself.
func (c *Config) given(key string) bool {
	_, ok := c.where[key]
	return ok
}
