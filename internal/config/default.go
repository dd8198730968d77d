package config

import (
	"strings"
	"time"
)

// Default gives every default, without the two keys that have none
// (AtoCore.DBPath and Backup.Dir) and without targets. Schedule.Weekly is set;
// clear it where there is no AtoCore.ChromaPath.
func Default() *Config {
	return &Config{
		StateDir: "/var/lib/atobackupd",
		Backup: Backup{
			MinFree:               1 << 30,
			ChromaMethod:          "live",
			ChromaFallback:        "live",
			ChromaOptimisticTries: 5,
			ChromaLockDeadline:    Duration(5 * time.Minute),
			FreezeDeadline:        Duration(10 * time.Minute),
			Share:                 "auto",
		},
		Schedule: Schedule{
			Timezone:        "UTC",
			Daily:           "0 6 * * *",
			Weekly:          "0 5 * * 0",
			Scrub:           "0 3 * * 3",
			Drill:           "0 7 1 1,4,7,10 *",
			CatchUp:         true,
			ScrubMaxBytes:   50 << 30,
			ShutdownTimeout: Duration(time.Minute),
		},
		Retention: Retention{
			Daily: 7, Weekly: 4, Monthly: 6,
			PreRestoreDays: 30, InvalidDays: 7, MaxDeleteFraction: 0.5,
		},
		Encryption: Encryption{Compression: "default"},
		Restore:    Restore{HealthTimeout: Duration(time.Minute)},
		Alarms: Alarms{
			Snapshot: Duration(26 * time.Hour),
			Full:     Duration(8 * day),
			Prune:    Duration(26 * time.Hour),
			Scrub:    Duration(9 * day),
			Drill:    Duration(100 * day),
		},
		HTTP: HTTP{Listen: "127.0.0.1:8120"},
		Log:  Log{Level: "info", Format: "auto"},
	}
}

const day = 24 * time.Hour

// settle fills what the file left out and depends on what else it says, and
// writes paths and the API's address the short way.
func (c *Config) settle() {
	if c.AtoCore.ChromaPath == "" && !c.given("schedule.weekly") {
		c.Schedule.Weekly = ""
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
	settle(c, key+"retry_every", &t.RetryEvery, Duration(15*time.Minute))
	settle(c, key+"max_age", &t.MaxAge, Duration(8*day))
	settle(c, key+"rebase_ratio", &t.RebaseRatio, 0.5)
	settle(c, key+"prune", &t.Prune, !t.AppendOnly)
}

// settle sets a value that the file does not give.
func settle[T any](c *Config, key string, value *T, def T) {
	if !c.given(key) {
		*value = def
	}
}

// given tells whether the file sets key itself.
func (c *Config) given(key string) bool {
	_, ok := c.where[key]
	return ok
}
