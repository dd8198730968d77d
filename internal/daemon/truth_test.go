package daemon

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/notify"
	"github.com/atocore/atobackupd/internal/web"
	"github.com/atocore/atobackupd/scheduler"
	"github.com/atocore/atobackupd/snapshot"
)

// state is one state of the world: how it is made, what every mouth must say of
// it, and how it ends.
type state struct {
	name string
	make func(w *world)
	want string // "level name", of a leg or a condition; "" where all must be well
	text string // part of what is said of it
	mute bool   // people are not told: the schedule is about to mend it
	end  func(w *world)
	// after is what is left when it has ended; "" is that all is well.
	after string
	// forgets says that the alarm ends because nobody looks any more.
	forgets bool
	// settles says that the alarm ends because somebody gave up what was lost.
	settles bool
}

// world is an installation under a daemon's eyes, on which everything has gone
// well once. Time is a test's own and passes when the test sleeps.
type world struct {
	*house
	app   *app.App // in force; a reload puts another in its place
	close func() error
	d     *daemon
	alone func()   // lets go of the locks of a daemon
	pulse []string // the heartbeats that were sent

	page string // of the dashboard, as it was last asked

	// What a state keeps until its end.
	encryption config.Encryption
	good       string
	held       *fsx.Lock
	pulsing    sync.Mutex
	hangs      bool // the scheduler's loop makes no progress
	broken     bool // not even a look can go well
}

const worldSchedule = `
[drill]
queries = ["SELECT count(*) > 0 FROM t"]
`

func newWorld(t *testing.T) *world {
	w := &world{house: newHouse(t, "")}
	text, err := os.ReadFile(w.path("config.toml"))
	if err != nil {
		t.Fatal(err)
	}
	w.house.write("config.toml", strings.NewReplacer(
		"scrub = \"\"\n", "scrub = \"0 3 * * 3\"\nweekly = \"0 5 * * 0\"\n", "drill = \"\"\n", "",
		"[backup]", "chroma_path = \""+w.path("data/whole")+"\"\n[backup]").Replace(string(text))+worldSchedule)
	if out, err := exec.Command("tar", "-xzf", "../../snapshot/chroma/testdata/whole.tar.gz", "-C",
		w.path("data")).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}
	for _, dir := range []string{".", "data", "vault", "backups"} { // whatever the umask
		if err := os.Chmod(w.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// wake opens the installation as the daemon does, without its schedule: states
// say themselves what runs when.
func (w *world) wake() {
	w.t.Helper()
	w.app = w.open()
	w.close = w.app.Close
	w.d = newDaemon(w.app)
	w.d.lookEvery = time.Minute
	w.d.tellers = func(*config.Config) (notifier, error) { return w.sink, nil }
	var err error
	if w.alone, err = w.app.HoldLife(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.d.alarmLoop = newAlarmLoop(w.t.Context(), w.d.app, time.Minute)
	w.d.alarmLoop.use(w.sink)
	w.sink.Watch(w.d.life.heard)
	w.d.life.change(func(*app.Life) {})
	jobs, err := jobs(w.app, func(string) {}, w.d.say)
	if err != nil {
		w.t.Fatal(err)
	}
	w.d.scheduler, err = scheduler.New(w.app.History(), jobs, scheduler.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.app.SetPulse(func(leg string, b notify.Beat) {
		w.pulsing.Lock() // targets are served side by side
		defer w.pulsing.Unlock()
		w.pulse = append(w.pulse, leg+" "+string(b.Signal))
	})
}

// sleepDaemon ends the daemon.
func (w *world) sleepDaemon() {
	w.t.Helper()
	if w.d.heartbeats.Load() != nil {
		w.must(w.d.stopHeartbeats(w.t.Context()))
	}
	w.alone()
	if err := w.close(); err != nil && !strings.Contains(err.Error(), "closed") {
		w.t.Error(err)
	}
}

// restart ends the daemon, does something while there is none, and wakes it.
func (w *world) restart(meanwhile func()) {
	w.sleepDaemon()
	meanwhile()
	w.wake()
}

// pass keeps the daemon alive while time passes.
func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	if !w.hangs {
		w.d.life.beat()
	}
}

// days lets days pass on which all goes well.
func (w *world) days(n int) {
	for range n {
		w.pass(24 * time.Hour)
		w.take(snapshot.Daily)
		w.ship()
		w.prune()
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) mustFail(err error) {
	w.t.Helper()
	if err == nil {
		w.t.Fatal("it went well")
	}
}

// take takes a snapshot by the clock, a second after the one before.
func (w *world) take(kind snapshot.Kind) app.Taken {
	w.t.Helper()
	taken, err := w.tryTake(kind)
	w.must(err)
	return taken
}

func (w *world) tryTake(kind snapshot.Kind) (app.Taken, error) {
	time.Sleep(time.Second)
	return w.app.Backup(w.t.Context(), kind, kind == snapshot.Weekly, time.Now())
}

func (w *world) ship() {
	w.t.Helper()
	w.must(w.tryShip())
}

func (w *world) tryShip() error {
	time.Sleep(time.Second)
	_, err := w.app.Sync(w.t.Context(), "", false)
	return err
}

func (w *world) prune() {
	w.t.Helper()
	time.Sleep(time.Second)
	_, err := w.app.Prune(w.t.Context(), time.Now(), false, false)
	w.must(err)
}

func (w *world) scrub() error {
	time.Sleep(time.Second)
	_, err := w.app.Scrub(w.t.Context(), time.Now(), app.ScrubBounds{})
	return err
}

func (w *world) drill() error {
	time.Sleep(time.Second)
	_, err := w.app.Drill(w.t.Context(), "latest", time.Time{}, "")
	return err
}

func (w *world) verify() error {
	time.Sleep(time.Second)
	_, err := w.app.VerifyTarget(w.t.Context(), w.app.Config.Offsite[0], app.VerifyBounds{Fraction: 1})
	return err
}

// newest is the directory of the newest published snapshot.
func (w *world) newest() string {
	w.t.Helper()
	all := w.snapshots()
	if len(all) == 0 {
		w.t.Fatal("there is no snapshot")
	}
	return all[len(all)-1]
}

// flip changes a byte of a file, or changes it back.
func (w *world) flip(path string) {
	w.t.Helper()
	data, err := os.ReadFile(path)
	w.must(err)
	data[len(data)-1] ^= 1
	w.must(os.Chmod(path, 0o600))
	w.must(os.WriteFile(path, data, 0o600))
}

// record runs a statement on the record of what happened.
func (w *world) record(statement string, args ...any) {
	w.t.Helper()
	db, err := sql.Open("sqlite", w.path("state/history.db"))
	w.must(err)
	_, err = db.Exec(statement, args...)
	w.must(errors.Join(err, db.Close()))
}

// configure changes the configuration of the running daemon.
func (w *world) configure(change func(c *config.Config)) { change(w.app.Config) }

// A mouth says how everything stands: the level, and what is bad at which level.
type mouth struct {
	level string
	bad   map[string]string // level by name, of legs and conditions
	text  string
}

// listen asks every mouth at once.
func (w *world) listen() map[string]mouth {
	w.t.Helper()
	told := make(map[string]mouth)

	// The command, in a process of its own: it shares nothing with the daemon.
	cfg, err := config.Load(w.path("config.toml"))
	w.must(err)
	*cfg = *w.app.Config
	a, err := app.Open(w.t.Context(), cfg, app.Options{Version: "test", Host: "dalidou", ReadOnly: true})
	w.must(err)
	status, err := a.Status(w.t.Context(), time.Now())
	w.must(errors.Join(err, a.Close()))
	told["command"] = w.document(status)

	server := w.server()
	var api health.Status
	w.must(json.Unmarshal([]byte(w.get(server, "/api/status")), &api))
	told["API"] = w.document(api)

	metrics := w.get(server, "/metrics")
	m := mouth{level: levelNames[w.number(metrics, `atobackupd_level`)], bad: map[string]string{}}
	for _, match := range levelMetric.FindAllStringSubmatch(metrics, -1) {
		if match[2] != "0" {
			m.bad[match[1]] = levelNames[match[2]]
		}
	}
	told["metrics"] = m

	page := w.get(server, "/")
	verdict := regexp.MustCompile(`(?s)<section class="verdict (\w+)".*?</section>`).FindStringSubmatch(page)
	if verdict == nil {
		w.t.Fatal("the dashboard has no verdict")
	}
	told["dashboard"] = mouth{level: verdict[1], text: verdict[0]}
	w.page = page
	return told
}

var levelMetric = regexp.MustCompile(
	`(?m)^atobackupd_(?:leg_level\{leg|condition\{condition)="([^"]+)"\} (\d)`)

var levelNames = map[string]string{
	"0": health.LevelOK, "1": health.LevelWarning, "2": health.LevelCritical, "3": health.LevelUnknown,
}

func (w *world) document(s health.Status) mouth {
	m := mouth{level: s.Level, bad: map[string]string{}}
	for _, p := range s.Problems() {
		m.bad[p.Name] = p.Level
		m.text += p.Message + "\n"
	}
	return m
}

func (w *world) get(server *web.Server, path string) string {
	w.t.Helper()
	r := httptest.NewRequestWithContext(w.t.Context(), http.MethodGet, path, nil)
	r.Host, r.RemoteAddr = "127.0.0.1:8120", "127.0.0.1:50123"
	answer := httptest.NewRecorder()
	server.Handler().ServeHTTP(answer, r)
	if answer.Code != http.StatusOK {
		w.t.Fatalf("%s: %d: %s", path, answer.Code, answer.Body)
	}
	return answer.Body.String()
}

func (w *world) number(metrics, name string) string {
	w.t.Helper()
	match := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\d+)`).FindStringSubmatch(metrics)
	if match == nil {
		w.t.Fatalf("there is no metric %s", name)
	}
	return match[1]
}

// server is the daemon's own.
func (w *world) server() *web.Server {
	return web.New(httpSource{w.d}, web.Options{TokenFile: func() string { return "" },
		Report: func(err error) { w.t.Error(err) }})
}

// look has the daemon look, and returns what people were told.
func (w *world) look() []string {
	w.d.alarmLoop.pass(w.t.Context(), time.Now())
	return w.sink.take()
}

// check asks all mouths whether they say what is wanted.
func (w *world) check(when, want, text string) {
	w.t.Helper()
	level, name, _ := strings.Cut(want, " ")
	if want == "" {
		level = health.LevelOK
	}
	for who, m := range w.listen() {
		if m.level != level {
			w.t.Errorf("%s: %s says %s, want %s: %v %s", when, who, m.level, level, m.bad, m.text)
		}
		if m.bad != nil && name != "" && m.bad[name] != level {
			w.t.Errorf("%s: %s says %v, want %s %s: %s", when, who, m.bad, name, level, m.text)
		}
		if text != "" && m.text != "" && !strings.Contains(m.text, text) {
			w.t.Errorf("%s: %s lacks %q: %s", when, who, text, m.text)
		}
	}
}

// checkPulse asks the heartbeats: while a leg is bad, the last that they heard of it
// is no success, and once it is well again it is one, where they heard anything.
func (w *world) checkPulse(when, bad, well string) {
	w.t.Helper()
	last := make(map[string]string)
	for _, p := range w.pulse {
		leg, signal, _ := strings.Cut(p, " ")
		last[leg] = signal
	}
	level, leg, _ := strings.Cut(bad, " ")
	if signal, heard := last[leg]; heard && level == health.LevelCritical && signal == string(notify.Success) {
		w.t.Errorf("%s: the last heartbeat of %s is a success: %q", when, leg, w.pulse)
	}
	if signal, heard := last[well]; heard && signal != string(notify.Success) {
		w.t.Errorf("%s: the last heartbeat of %s is %q, no success", when, well, signal)
	}
}

// TestTruth makes each state for real, asks every mouth, ends it, and asks again.
func TestTruth(t *testing.T) {
	if len(states) < 60 {
		t.Errorf("only %d states", len(states))
	}
	for _, s := range states {
		t.Run(strings.ReplaceAll(s.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			synctest.Test(t, func(t *testing.T) {
				w.t = t
				w.run(s)
			})
		})
	}
}

func (w *world) run(s state) {
	w.wake()
	defer func() { w.sleepDaemon() }()
	w.take(snapshot.Weekly)
	w.ship()
	w.prune()
	w.must(w.scrub())
	w.must(w.drill())
	w.must(w.verify())
	if told := w.look(); len(told) > 0 {
		w.t.Fatalf("all went well, and people are told: %q", told)
	}
	w.check("at first", "", "")
	w.pulse = nil

	s.make(w)
	w.check("while it holds", s.want, s.text)
	_, name, _ := strings.Cut(s.want, " ")
	w.checkPulse("while it holds", s.want, "")
	told := strings.Join(w.look(), "\n")
	hint := w.show(s, told)
	silent := s.mute || s.want == ""
	if level, _, _ := strings.Cut(s.want, " "); silent != !strings.Contains(told, strings.ToUpper(level)+" "+name+
		": ") || silent && told != "" {
		w.t.Errorf("people are told %q", told)
	}
	for range 3 {
		w.pass(time.Minute)
		if again := w.look(); len(again) > 0 {
			w.t.Errorf("people are told again: %q", again)
		}
	}
	if s.end == nil {
		return
	}
	w.pulse = nil
	s.end(w)
	w.check("after its end", s.after, "")
	if s.after == "" && !s.forgets && !s.settles {
		w.checkPulse("after its end", "", name)
	}
	told = strings.Join(w.look(), "\n")
	word := "RECOVERED "
	switch {
	case s.forgets:
		word = "NO LONGER WATCHED "
	case s.settles:
		word = "SETTLED "
	}
	if hint != "" && strings.Contains(told, hint) {
		w.t.Errorf("after its end people are told what to do: %q", told)
	}
	if got := strings.Count(told, word+name); s.after == "" && !silent && got != 1 || silent && told != "" {
		w.t.Errorf("after its end people are told %q", told)
	}
}

// show logs the row of a state for people, and keeps the page of the dashboard
// where TRUTH_PAGES names a directory for it. It returns the hint of the state.
func (w *world) show(s state, told string) (hint string) {
	w.t.Helper()
	var levels []string
	for who, m := range w.listen() {
		levels = append(levels, who+" "+m.level)
	}
	slices.Sort(levels)
	_, name, _ := strings.Cut(s.want, " ")
	message := ""
	status, err := w.app.Status(w.t.Context(), time.Now())
	w.must(err)
	for _, p := range status.Problems() {
		if p.Name == name {
			message, hint = p.Message, p.Hint
		}
	}
	heard := "people hear nothing"
	if told != "" {
		heard = "people hear " + strings.ToUpper(status.Level)
	}
	message = strings.ReplaceAll(message, w.dir, "DIR")
	w.t.Logf("TABLE | %s | %s | %s | %s; %s; %d heartbeats | %s", s.name, status.Level, name,
		strings.Join(levels, ", "), heard, len(w.pulse), message)
	if dir := os.Getenv("TRUTH_PAGES"); dir != "" {
		w.must(os.WriteFile(filepath.Join(dir, strings.ReplaceAll(s.name, " ", "_")+".html"), []byte(w.page), 0o600))
	}
	return hint
}

// twoAddresses are those of the sink, and a command.
type twoAddresses struct {
	*sink
	command *notify.Outbox
}

func (t twoAddresses) Keys() []string { return append(t.sink.Keys(), t.command.Keys()...) }

func (t twoAddresses) Watch(heard func(key string, err error)) {
	t.sink.Watch(heard)
	t.command.Watch(heard)
}

func (t twoAddresses) Send(ctx context.Context, now time.Time, m notify.Message) (bool, error) {
	_, commandErr := t.command.Send(ctx, now, m)
	told, err := t.sink.Send(ctx, now, m)
	return told, errors.Join(err, commandErr)
}

func (t twoAddresses) Retry(ctx context.Context, now time.Time) error {
	return t.command.Retry(ctx, now)
}

// secondAddress adds the address of a command that fails until there is a file.
func (w *world) secondAddress() {
	w.t.Helper()
	command, err := notify.Parse(nil, []string{"/bin/sh", "-c", "cat >/dev/null; test -e " + w.path("listens")})
	w.must(err)
	both := twoAddresses{w.sink, command}
	both.Watch(w.d.life.heard)
	w.d.alarmLoop.use(both)
}

// digest sends a message that is no alarm.
func (w *world) digest() {
	w.t.Helper()
	w.must(w.d.alarmLoop.say(w.t.Context(), time.Now(), notify.Message{Title: "all is well", Body: "all is well"}))
	w.sink.take()
}

func encode(w *world, v any) string {
	data, err := json.Marshal(v)
	w.must(err)
	return string(data)
}
