package health

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Names of conditions, in the order in which they are listed.
const (
	ConditionRestorePending = "restore_pending"
	ConditionDamaged        = "damaged"
	ConditionSourceShrunk   = "source_shrunk"
	ConditionUnverified     = "unverified"
	ConditionSpace          = "space"
	ConditionHistory        = "history"
	ConditionConfig         = "config"
	ConditionNotify         = "notify"
	ConditionDaemon         = "daemon"
	ConditionLock           = "lock"
	ConditionClock          = "clock"
	ConditionRecipients     = "recipients"
	ConditionShared         = "shared"
	ConditionMount          = "mount"
)

// Conditions are the names of all conditions that can hold, but for those of the
// daemon's own parts (Facts.Others).
var Conditions = []string{
	ConditionRestorePending, ConditionDamaged, ConditionSourceShrunk, ConditionUnverified, ConditionSpace,
	ConditionHistory, ConditionConfig,
	ConditionNotify, ConditionDaemon, ConditionLock, ConditionClock, ConditionRecipients, ConditionShared,
	ConditionMount,
}

const (
	// lockPatience is how long the lock may be held without a word.
	lockPatience = time.Hour
	// daemonPatience is how long nobody may keep the schedule without a word.
	daemonPatience = 5 * time.Minute

	spaceWarningDays, spaceCriticalDays = 14, 3
)

// conditions returns those that hold at now, in their order.
func (f Facts) conditions(now time.Time) []Condition {
	var found []Condition
	add := func(name string, v verdict, since time.Time) {
		if v.level != "" && v.level != LevelOK {
			c := Condition{Name: name, Level: v.level, Message: v.message, Hint: v.hint, Headline: v.headline}
			if !since.IsZero() {
				c.Since = &since
			}
			found = append(found, c)
		}
	}
	trouble := func(name, level, headline string, t *Trouble) {
		if t != nil {
			add(name, verdict{level: level, headline: headline, message: t.Message, hint: t.Hint}, t.Since)
		}
	}
	trouble(ConditionRestorePending, LevelCritical, "A restore was interrupted and waits for you.", f.RestorePending)
	if len(f.Damage) > 0 {
		v, since := damaged(f.Damage)
		add(ConditionDamaged, v, since)
		for _, d := range f.Damage {
			found[len(found)-1].Parts = append(found[len(found)-1].Parts, d.Subject)
		}
	}
	if len(f.Shrunk) > 0 {
		v, since := shrunk(f.Shrunk)
		add(ConditionSourceShrunk, v, since)
	}
	trouble(ConditionUnverified, LevelWarning, "Nobody can say whether the saved vector store is whole.", f.Unverified)
	if f.Space != nil {
		add(ConditionSpace, f.Space.judge(), time.Time{})
	}
	add(ConditionHistory, f.History.judge(), f.History.StartedOver)
	trouble(ConditionConfig, LevelCritical, "The new configuration is refused.", f.Config)
	trouble(ConditionConfig, LevelCritical, "The daemon does not start.", f.NotStarted)
	if len(f.Notify) > 0 {
		v, since := unheard(f.Notify)
		add(ConditionNotify, v, since)
	}
	v, since := f.Daemon.judge(now)
	add(ConditionDaemon, v, since)
	if f.Lock != nil && now.Sub(f.Lock.Since) > lockPatience {
		add(ConditionLock, verdict{level: LevelWarning, headline: "Something has held the lock for more than an hour.",
			message: "it is held by " + f.Lock.Holder + " since " + Clock(f.Lock.Since), hint: f.Lock.Hint},
			f.Lock.Since)
	}
	if len(f.Clocks) > 0 {
		add(ConditionClock, verdict{level: LevelWarning, headline: "The clock is wrong, or was.",
			message: "dated in the future: " + firstFew(f.Clocks), hint: "timedatectl"}, time.Time{})
	}
	trouble(ConditionRecipients, LevelCritical, "Nothing can be sealed, so nothing is sent off-site.", f.Recipients)
	trouble(ConditionShared, LevelCritical, "Somebody else can write where the backups lie.", f.Shared)
	trouble(ConditionMount, LevelCritical, "The disk of the backups is not mounted.", f.Mount)
	for _, o := range f.Others {
		t := o.Trouble
		trouble(o.Name, LevelCritical, title(o.Name)+" needs you.", &t)
	}
	return found
}

func damaged(list []Damage) (verdict, time.Time) {
	var texts []string
	var since time.Time
	gone := 0
	for _, d := range list {
		texts = append(texts, d.Subject+" ("+d.What+")")
		if !d.Since.IsZero() && (since.IsZero() || d.Since.Before(since)) {
			since = d.Since
		}
		if d.Gone {
			gone++
		}
	}
	what := "damaged"
	switch gone {
	case 0:
	case len(list):
		what = "gone"
	default:
		what = "damaged or gone"
	}
	headline := "A stored copy is " + what + "."
	if len(list) > 1 {
		headline = fmt.Sprintf("%d stored copies are %s.", len(list), what)
	}
	return verdict{level: LevelCritical, headline: headline, message: "damaged or missing: " + firstFew(texts),
		hint: list[0].Hint}, since
}

func shrunk(list []Shrunk) (verdict, time.Time) {
	newest := list[len(list)-1]
	return verdict{level: LevelCritical, headline: "What is backed up has lost much of its content.",
		message: "snapshot " + newest.Stamp + ": " + strings.Join(newest.What, "; ") +
			": retention deletes nothing older meanwhile",
		hint: "if it was meant: atobackupd accept " + newest.Stamp +
			"; if not: see `atobackupd list` for one to restore"}, list[0].Since
}

func (s *Space) judge() verdict {
	v := verdict{headline: "The disk of the backups is filling up.", hint: s.Hint}
	switch {
	case s.Next > 0 && s.Free-s.Next < s.Keep:
		v.level, v.headline = LevelCritical, "There is no room for the next snapshot."
		v.message = fmt.Sprintf("%d MiB are free; the next snapshot may need %d MiB, and %d MiB must stay free "+
			"(min_free)", s.Free>>20, s.Next>>20, s.Keep>>20)
	case s.FullInDays != nil && *s.FullInDays <= spaceCriticalDays:
		v.level, v.message = LevelCritical, fmt.Sprintf("it is full within %d days as it grows now", spaceCriticalDays)
	case s.FullInDays != nil && *s.FullInDays <= spaceWarningDays:
		v.level, v.message = LevelWarning, fmt.Sprintf("it is full within %d days as it grows now", spaceWarningDays)
	}
	return v
}

func (h History) judge() verdict {
	v := verdict{level: LevelCritical, headline: "What happens is not remembered."}
	switch {
	case h.ReadError != "":
		v.headline = "What happened so far cannot be read."
		v.message, v.hint = "it cannot be read: "+h.ReadError, h.Hint
	case h.WriteError != "":
		v.message, v.hint = "it cannot be written: "+h.WriteError, h.Hint
		if v.hint == "" {
			v.hint = "make room in state_dir, and let the service's user write there"
		}
	case h.Foreign:
		v.headline = "What is remembered is about other backups."
		v.message, v.hint = "history.db is that of another backup directory, and proves nothing about this one",
			"systemctl restart atobackupd, and then: atobackupd scrub --all"
	case h.Missing:
		v.message, v.hint = "history.db is gone or empty, although there are snapshots of ours",
			"systemctl restart atobackupd, and then: atobackupd scrub --all"
	case !h.StartedOver.IsZero() && !h.ScrubPassed && h.TookForeign:
		v.headline = "What was remembered is about other backups."
		v.message, v.hint = "history.db was started over at "+Clock(h.StartedOver)+
			": the one that lay there is that of another backup directory (it is kept beside it); nothing is known "+
			"of this one until a scrub has passed", "atobackupd scrub --all"
	case !h.StartedOver.IsZero() && !h.ScrubPassed:
		v.headline = "What was known of the backups was lost."
		v.message, v.hint = "history.db was started over at "+Clock(h.StartedOver)+
			": what was found before is forgotten until a scrub has passed", "atobackupd scrub --all"
	default:
		return verdict{level: LevelOK}
	}
	return v
}

func unheard(list []Trouble) (verdict, time.Time) {
	var texts []string
	since := list[0].Since
	for _, t := range list {
		texts = append(texts, t.Message)
		if t.Since.Before(since) {
			since = t.Since
		}
	}
	return verdict{level: LevelWarning, headline: "Somebody could not be told.", message: firstFew(texts),
		hint: "correct [notify], and try it: atobackupd notify test"}, since
}

func (d Daemon) judge(now time.Time) (verdict, time.Time) {
	switch {
	case d.Second != nil:
		return verdict{level: LevelCritical, headline: "A second daemon was started, and refused.",
			message: d.Second.Message, hint: d.Second.Hint}, d.Second.Since
	case d.State == DaemonHung && now.Sub(d.Since).Abs() > daemonPatience:
		return verdict{level: LevelCritical, headline: "The daemon hangs.", message: "it was last heard of at " +
			Clock(d.Since),
			hint: "systemctl restart atobackupd"}, d.Since
	case d.Crash != nil:
		return verdict{level: LevelCritical, headline: "The daemon ended by itself.", message: d.Crash.Message,
			hint: d.Crash.Hint}, d.Crash.Since
	case d.Scheduled && d.State == DaemonStopped && now.Sub(d.Since).Abs() > daemonPatience:
		return verdict{level: LevelWarning, headline: "Nobody keeps the schedule.",
			message: "the daemon is not running; it was last heard of at " + Clock(d.Since),
			hint:    "systemctl start atobackupd"}, d.Since
	case d.Scheduled && d.State == DaemonNever:
		return verdict{level: LevelWarning, headline: "Nobody keeps the schedule.",
			message: "the daemon was never started",
			hint:    "systemctl enable --now atobackupd"}, time.Time{}
	}
	return verdict{level: LevelOK}, time.Time{}
}

// title names a condition of the daemon's own parts.
func title(name string) string {
	if job, ok := strings.CutPrefix(name, "job:"); ok {
		return "Job " + job
	}
	if name == "http" {
		return "The address of the dashboard"
	}
	return name
}

// firstFew returns the first of a list, and how many more there are.
func firstFew(list []string) string {
	const most = 3
	list = slices.Clone(list)
	if n := len(list); n > most {
		return fmt.Sprintf("%s; and %d more", strings.Join(list[:most], "; "), n-most)
	}
	return strings.Join(list, "; ")
}
