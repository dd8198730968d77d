package config

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/atocore/atobackupd/snapshot/chroma"
)

// Validate checks what the values mean, each by itself and together, as far as
// that needs no look at the file system. It reports everything it finds as one
// error of kind Config; parts of it, each a *failure.Error, stand on lines of
// their own. Parse has called it already; a Config that is changed by hand needs
// every key of its targets and checks, since their defaults are filled by Parse.
func (c *Config) Validate() error { return c.check().err(c.Path) }

// ValidateRun checks what only the daemon depends on: that weekly and monthly
// snapshots have a Chroma directory to save, that AtoCore can add snapshots
// where its API is to take them, and, by cron, that each expression of the
// schedule can be read. `run` and `config check` call it; a restore must not
// fail for it.
func (c *Config) ValidateRun(cron func(expression string) error) error {
	v := validation{c: c}
	for _, job := range []Job{{"weekly", c.Schedule.Weekly}, {"monthly", c.Schedule.Monthly}} {
		if job.Cron != "" && c.AtoCore.ChromaPath == "" {
			v.add("schedule."+job.Name, fmt.Sprintf(`set atocore.chroma_path, or %s = ""`, job.Name),
				"schedule.%s = %q, but there is no atocore.chroma_path to save", job.Name, job.Cron)
		}
	}
	if c.Backup.ChromaMethod == chroma.MethodAPI && c.Backup.AtoCoreGroup == "" {
		v.add("backup.chroma_method", `name AtoCore's group, e.g. atocore_group = "1000"`,
			`backup.chroma_method = "api" needs backup.atocore_group: `+
				`AtoCore adds a snapshot to backup.dir, which is private otherwise`)
	}
	for _, job := range append(c.Jobs(), Job{"digest", c.Notify.Digest}) {
		key := "schedule." + job.Name
		if job.Name == "digest" {
			key = "notify.digest"
		}
		if job.Cron == "" {
			continue
		}
		if err := cron(job.Cron); err != nil {
			v.add(key, `write five fields such as "0 6 * * *", or "" to turn it off`, "%s = %q: %v", key, job.Cron, err)
		}
	}
	return v.found.err(c.Path)
}

// Job is one job of the schedule.
type Job struct {
	Name string // its key in [schedule]
	Cron string // the expression; "" is off
}

// Jobs returns the jobs of the schedule, also those that are off.
func (c *Config) Jobs() []Job {
	s := c.Schedule
	return []Job{{"daily", s.Daily}, {"weekly", s.Weekly}, {"monthly", s.Monthly}, {"scrub", s.Scrub},
		{"verify", s.Verify}, {"drill", s.Drill}}
}

// validation gathers the problems of one configuration.
type validation struct {
	c     *Config
	found problems
}

// add reports a problem with a key, at its place in the file or else at that
// of its table.
func (v *validation) add(key, hint, why string, args ...any) {
	v.found.add(v.place(key), key, hint, why, args...)
}

func (v *validation) place(key string) position {
	for {
		if at, ok := v.c.where[key]; ok {
			return at
		}
		dot := strings.LastIndexAny(key, ".[")
		if dot < 0 {
			return position{}
		}
		key = key[:dot]
	}
}

func (c *Config) check() problems {
	v := &validation{c: c}
	v.required()
	v.paths()
	v.backup()
	v.schedule()
	v.retention("retention", c.Retention)
	v.recipients()
	for i := range c.Offsite {
		v.target(i)
	}
	v.restore()
	v.notify()
	v.http()
	v.enum("log.level", c.Log.Level, "debug", "info", "warn", "error")
	v.enum("log.format", c.Log.Format, "auto", "text", "json")
	return v.found
}

func (v *validation) required() {
	v.need("atocore.db_path", v.c.AtoCore.DBPath,
		`name AtoCore's database, e.g. db_path = "/srv/storage/atocore/data/db/atocore.db" under [atocore]`)
	v.need("backup.dir", v.c.Backup.Dir,
		`name the directory for snapshots, e.g. dir = "/srv/storage/atocore/backups" under [backup]`)
	v.need("state_dir", v.c.StateDir, `e.g. state_dir = "/var/lib/atobackupd"`)
}

func (v *validation) need(key, value, hint string) {
	if value == "" {
		v.add(key, hint, "%s is required", shown(key))
	}
}

func (v *validation) backup() {
	a, b := v.c.AtoCore, v.c.Backup
	v.enum("backup.chroma_method", string(b.ChromaMethod), chroma.Names(chroma.Methods)...)
	v.enum("backup.chroma_fallback", string(b.ChromaFallback), chroma.Names(chroma.Fallbacks)...)
	v.enum("backup.share", b.Share, "auto", "reflink", "hardlink", "copy")
	v.atLeast("backup.chroma_optimistic_tries", b.ChromaOptimisticTries, 0)
	v.positive("backup.chroma_lock_deadline", b.ChromaLockDeadline)
	v.positive("backup.freeze_deadline", b.FreezeDeadline)
	v.url("atocore.api_url", a.APIURL)
	v.url("atocore.health_url", a.HealthURL)
	api := b.ChromaMethod == chroma.MethodAPI
	if api && a.APIURL == "" {
		v.add("backup.chroma_method", `set it, e.g. api_url = "http://127.0.0.1:8100"`,
			`backup.chroma_method = "api" needs atocore.api_url`)
	}
	if b.ChromaMethod == chroma.MethodFreeze {
		v.freeze("backup.chroma_method")
	}
	if api && b.ChromaFallback == chroma.MethodFreeze {
		v.freeze("backup.chroma_fallback")
	}
	v.command("backup.freeze_command", b.FreezeCommand)
	v.command("backup.thaw_command", b.ThawCommand)
	if !groupName.MatchString(b.AtoCoreGroup) {
		v.add("backup.atocore_group", `write a name or a number, e.g. "1000"`, "backup.atocore_group = %s: no group",
			quoted(b.AtoCoreGroup))
	}
}

// groupName is a group's name as useradd allows it, a number, or nothing.
var groupName = regexp.MustCompile(`^([a-z_][a-z0-9_.-]{0,31}|[0-9]{1,10})?$`)

func (v *validation) freeze(key string) {
	if len(v.c.Backup.FreezeCommand) == 0 || len(v.c.Backup.ThawCommand) == 0 {
		v.add(key, `set both, e.g. ["docker", "pause", "atocore"] and ["docker", "unpause", "atocore"]`,
			`%s = "freeze" needs freeze_command and thaw_command`, key)
	}
}

func (v *validation) schedule() {
	zone := v.c.Schedule.Timezone
	// "Local" is no name of a zone but whatever the process's environment says.
	if _, err := time.LoadLocation(zone); err != nil || zone == "Local" {
		v.add("schedule.timezone", `write an IANA name such as "Europe/Berlin", or "UTC"`,
			"schedule.timezone = %q: no such time zone", zone)
	}
	v.positive("schedule.verify_every", v.c.Schedule.VerifyEvery)
	v.positive("schedule.shutdown_timeout", v.c.Schedule.ShutdownTimeout)
}

// retention checks a table of that name, whose path is key.
func (v *validation) retention(key string, r Retention) {
	v.atLeast(key+".daily", r.Daily, 0)
	v.atLeast(key+".weekly", r.Weekly, 0)
	v.atLeast(key+".monthly", r.Monthly, 0)
	v.atLeast(key+".pre_restore_days", r.PreRestoreDays, 0)
	v.atLeast(key+".suspect_days", r.SuspectDays, 0)
	v.atLeast(key+".invalid_days", r.InvalidDays, 0)
	if f := r.MaxDeleteFraction; !(f > 0 && f <= 1) {
		v.add(key+".max_delete_fraction", "0.5 holds a prune that would delete more than half",
			"%s.max_delete_fraction = %v: must be above 0 and at most 1", shown(key), f)
	}
}

func (v *validation) notify() {
	n := v.c.Notify
	v.command("notify.command", n.Command)
	for i, address := range n.URLs {
		if scheme, rest, ok := strings.Cut(address, "://"); !ok || scheme == "" || rest == "" {
			v.add(element("notify.urls", i), `write a shoutrrr address such as "ntfy://ntfy.sh/topic"`,
				"notify.urls: address %d is no URL (it is not shown because it may hold a secret)", i+1)
		}
	}
	for _, leg := range slices.Sorted(maps.Keys(n.Heartbeats)) {
		address, key := n.Heartbeats[leg], "notify.heartbeats."+leg
		if u, err := url.Parse(address); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			v.add(key, `write one such as "https://hc-ping.com/…"`,
				"%s: not an http or https address (it is not shown because it may hold a secret)", key)
		}
		if legs := v.c.legs(); !slices.Contains(legs, leg) {
			v.add(key, suggest(leg, legs), "notify.heartbeats: there is no leg %q: the legs are %s", leg,
				strings.Join(legs, ", "))
		}
	}
}

// legs names what can go stale by itself.
func (c *Config) legs() []string {
	legs := []string{"snapshot", "full", "prune", "scrub", "drill", "live-drill"}
	for _, t := range c.Offsite {
		legs = append(legs, "offsite:"+t.Name, "verify:"+t.Name)
	}
	return legs
}

func (v *validation) http() {
	if v.c.HTTP.RequireToken && v.c.HTTP.TokenFile == "" {
		v.add("http.require_token", `name the token's file, e.g. token_file = "/etc/atobackupd/http-token"`,
			"http.require_token = true needs http.token_file: no write could be allowed")
	}
	listen := v.c.HTTP.Listen
	if listen == "" {
		return
	}
	host, port, err := net.SplitHostPort(listen)
	if n, convErr := strconv.Atoi(port); err != nil || convErr != nil || n < 0 || n > 65535 {
		v.add("http.listen", `write an address and a port, e.g. "127.0.0.1:8120", or "" to turn HTTP off`,
			"http.listen = %s: not a host and a port", quoted(listen))
		return
	}
	if !loopback(host) && v.c.HTTP.TokenFile == "" {
		v.add("http.listen", `set http.token_file, or listen on "127.0.0.1:`+port+`"`,
			"http.listen = %s: reachable from other machines without a token", quoted(listen))
	}
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// enum checks a value that is one of a few.
func (v *validation) enum(key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		v.add(key, suggest(value, allowed), "%s = %s: must be one of %s", shown(key), quoted(value),
			strings.Join(allowed, ", "))
	}
}

func suggest(value string, allowed []string) string {
	if near := Nearest(value, allowed); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return ""
}

func (v *validation) atLeast(key string, value, least int) {
	if value < least {
		v.add(key, "", "%s = %d: must be at least %d", shown(key), value, least)
	}
}

func (v *validation) positive(key string, value Duration) {
	if value <= 0 {
		v.add(key, `write one such as "5m"`, "%s = %q: must be longer than nothing", shown(key), value)
	}
}

func (v *validation) url(key, value string) {
	if value == "" {
		return
	}
	u, err := url.Parse(value)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		v.add(key, `write one such as "http://127.0.0.1:8100"`, "%s = %s: not an http or https address", shown(key),
			quoted(value))
	}
}

func (v *validation) command(key string, words []string) {
	if len(words) > 0 && strings.TrimSpace(words[0]) == "" {
		v.add(key, `write one such as ["docker", "compose", "down"]`, "%s: its first word, the program, is empty",
			shown(key))
	}
}
