package restore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/forktest"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/snapshot/chroma"
)

// standIn is a small AtoCore: a process of its own over a real database and a
// real Chroma directory.
type standIn struct {
	Live    Live
	Address string
	PIDFile string
	SickOn  string // it is unwell while this memory is in the database
	Sticky  string // a file in which it also remembers, beside the database
}

// serviceMain is the service's process.
func serviceMain(input []byte) error {
	var in standIn
	if err := json.Unmarshal(input, &in); err != nil {
		return err
	}
	db, err := openLive(in.Live.DB)
	if err != nil {
		return err
	}
	chroma, err := os.Open(filepath.Join(in.Live.Chroma, "chroma.sqlite3"))
	if err != nil {
		return err
	}
	defer chroma.Close()
	count := func(content string) (n int, err error) {
		err = db.QueryRow("SELECT count(*) FROM memories WHERE content = ?", content).Scan(&n)
		return n, err
	}
	http.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		if n, err := count(in.SickOn); err != nil || n > 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	http.HandleFunc("POST /memory", func(w http.ResponseWriter, r *http.Request) {
		var m struct{ Content, Project string }
		err := json.NewDecoder(r.Body).Decode(&m)
		if err == nil {
			_, err = db.Exec("INSERT INTO memories (content, project) VALUES (?, ?)", m.Content, m.Project)
		}
		if err == nil && in.Sticky != "" {
			err = os.WriteFile(in.Sticky, []byte(m.Content), 0o600)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	http.HandleFunc("GET /memory", func(w http.ResponseWriter, r *http.Request) {
		rows, err := db.Query("SELECT content FROM memories WHERE project = ?", r.URL.Query().Get("project"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		defer rows.Close()
		all := []string{}
		for rows.Next() {
			var s string
			if rows.Scan(&s) == nil {
				all = append(all, s)
			}
		}
		if sticky, err := os.ReadFile(in.Sticky); err == nil {
			all = append(all, string(sticky))
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"memories": all})
	})
	listener, err := net.Listen("tcp", in.Address)
	if err != nil {
		return err
	}
	return http.Serve(listener, nil)
}

// startMain is the start command: it leaves the service behind.
func startMain(input []byte) error {
	var in standIn
	if err := json.Unmarshal(input, &in); err != nil {
		return err
	}
	c := again("service", in)
	c.Stderr = nil // the caller may be waiting for the end of its own
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		return err
	}
	return os.WriteFile(in.PIDFile, []byte(strconv.Itoa(c.Process.Pid)), 0o600)
}

// stopMain is the stop command. It waits for the end, as docker compose does.
func stopMain(input []byte) error {
	var in standIn
	if err := json.Unmarshal(input, &in); err != nil {
		return err
	}
	data, err := os.ReadFile(in.PIDFile)
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(string(data))
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return err
	}
	for range 1000 {
		stat, err := os.ReadFile(filepath.Join("/proc", string(data), "stat"))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return os.Remove(in.PIDFile)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return errors.New("the service does not end")
}

func (in standIn) command(role string) []string { return forktest.Argv(role, in) }

func (in standIn) run(t *testing.T, role string) {
	t.Helper()
	argv := in.command(role)
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", role, err, out)
	}
}

func (in standIn) url(path string) string { return "http://" + in.Address + path }

// newStandIn starts a service on the scene's live store and stops what runs at
// the end.
func newStandIn(t *testing.T, s scene, change func(*standIn)) standIn {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	in := standIn{Live: s.live(), Address: listener.Addr().String(), PIDFile: filepath.Join(s.base, "pid")}
	listener.Close()
	change(&in)
	in.run(t, "start")
	t.Cleanup(func() {
		if exists(in.PIDFile) {
			in.run(t, "stop")
		}
	})
	r := Request{HealthURL: in.url("/health")}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := r.waitHealthy(ctx); err != nil {
		t.Fatal(err)
	}
	return in
}

// fullScene is a scene with a Chroma directory made by a real server.
func fullScene(t *testing.T) scene {
	t.Helper()
	s := scene{base: scratch(t)}
	unpackChroma(t, s.live().Chroma)
	if err := errors.Join(
		makeDB(s.live().DB, "new", false),
		writeFiles(filepath.Dir(s.live().Registry), map[string]string{"project-registry.json": "{}"}),
	); err != nil {
		t.Fatal(err)
	}
	s.stamp = s.take(t)
	if err := os.Remove(s.live().DB); err != nil {
		t.Fatal(err)
	}
	if err := makeDB(s.live().DB, "old", true); err != nil {
		t.Fatal(err)
	}
	return s
}

func managedRequest(t *testing.T, s scene, in standIn) Request {
	r := s.mustRequest(t)
	r.ConfirmServiceStopped = false
	r.HealthURL = in.url("/health")
	r.Service = &Service{Stop: in.command("stop"), Start: in.command("start"), HealthTimeout: 20 * time.Second}
	return r
}

func TestManagedRestore(t *testing.T) {
	t.Parallel()
	s := fullScene(t)
	in := newStandIn(t, s, func(*standIn) {})
	r := managedRequest(t, s, in)
	one := 1.0
	r.Service.Checks = []Check{
		{SQL: "SELECT count(*) = 1 FROM memories WHERE content = 'new'"},
		{URL: in.url("/memory?project=any"), JSON: "memories"},
		{URL: in.url("/memory"), Method: http.MethodPost, Body: `{"content": "after", "project": "p"}`},
		{URL: in.url("/memory?project=p"), JSON: "memories", Min: &one},
	}
	res, err := Run(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	if !res.DBRestored || !res.ChromaRestored || res.RolledBack || res.PreRestoreSnapshot == "" {
		t.Errorf("%+v", res)
	}
	assertNoTraces(t, s)
}

func TestManagedRestoreRollsBack(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*standIn, *Request){
		"health": func(in *standIn, r *Request) { r.Service.HealthTimeout = 2 * time.Second },
		"check":  func(in *standIn, r *Request) { r.Service.Checks = []Check{{SQL: "SELECT 0"}} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fullScene(t)
			in := newStandIn(t, s, func(in *standIn) {
				if name == "health" {
					in.SickOn = "new"
				}
			})
			r := managedRequest(t, s, in)
			spoil(&in, &r)
			res, err := Run(context.Background(), r)
			if failure.KindOf(err) != failure.Other ||
				!strings.Contains(fmt.Sprint(err), "rolled back, because the restored service was not well") {
				t.Errorf("got %v", err)
			}
			if !res.RolledBack || res.DBRestored || res.PreRestoreSnapshot != "" || len(res.Errors) != 1 {
				t.Errorf("%+v", res)
			}
			if name == "health" {
				if status, err := get(context.Background(), in.url("/health")); err != nil || status != 200 {
					t.Errorf("the service does not run on the old store: %d, %v", status, err)
				}
			}
			in.run(t, "stop")
			if got := contentsWithWAL(t, s); got != "old,old in the wal" {
				t.Errorf("the database says %q", got)
			}
			assertNoTraces(t, s)
		})
	}
}

// A service that cannot be started, on neither store, is said to be down once.
func TestServiceThatNeverStarts(t *testing.T) {
	t.Parallel()
	s := fullScene(t)
	r := managedRequest(t, s, newStandIn(t, s, func(*standIn) {}))
	r.Service.Stop = append([]string{"sh", "-c", `"$@" || true`, "sh"}, r.Service.Stop...) // it is run twice
	r.Service.Start = []string{"sh", "-c", "exit 3"}
	res, err := Run(context.Background(), r)
	text := fmt.Sprint(err)
	if strings.Count(text, "THE SERVICE IS DOWN") != 1 || !strings.Contains(text, "rolled back") {
		t.Errorf("got %v", err)
	}
	if !res.RolledBack || res.DBRestored {
		t.Errorf("%+v", res)
	}
	assertNoTraces(t, s)
}

// An interrupt while the restored service is being checked leaves the new store live,
// and the result says so.
func TestInterruptedWhileChecking(t *testing.T) {
	t.Parallel()
	s := fullScene(t)
	r := managedRequest(t, s, newStandIn(t, s, func(*standIn) {}))
	started := filepath.Join(s.base, "started")
	r.Service.Start = []string{"touch", started} // and nothing answers: it goes on asking
	ctx := endsWith(t, started)
	res, err := Run(ctx, r)
	if failure.KindOf(err) != failure.Interrupted || !strings.Contains(err.Error(), "it was left restored") {
		t.Fatalf("got %v", err)
	}
	if !res.DBRestored || !res.ChromaRestored || !res.RestoredIntegrityOK || res.RolledBack {
		t.Errorf("the new store is live, and the result is %+v", res)
	}
	if _, err := Abort(context.Background(), ResumeOptions{Store: r.Store, StateDir: r.StateDir}); err != nil {
		t.Fatal(err)
	}
	if got := contentsWithWAL(t, s); got != "old,old in the wal" {
		t.Errorf("the database says %q", got)
	}
	assertNoTraces(t, s)
}

// TestRollBackThatIsStuck: the journal stands, so what is
// advised must not be another restore, which would be refused.
func TestRollBackThatIsStuck(t *testing.T) {
	if !alone(t) {
		return
	}
	s := fullScene(t)
	in := newStandIn(t, s, func(*standIn) {})
	r := managedRequest(t, s, in)
	r.Service.Checks = []Check{{SQL: "SELECT 0"}}
	checked, cut := false, false
	stop := fsx.Observe(func(op fsx.Op, path string) error {
		j, err := pendingIn(s.backups())
		checked = checked || err == nil && j != nil && j.Phase == PhaseChecking
		if cut = cut || checked && op == fsx.OpRename && path == s.live().DB; cut {
			return errors.New("cut")
		}
		return nil
	})
	res, err := Run(context.Background(), r)
	stop()
	if !cut || !strings.HasSuffix(fmt.Sprint(err), "finish the roll-back with `atobackupd restore --abort`") {
		t.Errorf("cut %v, got %v", cut, err)
	}
	if res.DBRestored || res.RolledBack || exists(in.PIDFile) {
		t.Errorf("between old and new: %+v, the service runs: %v", res, exists(in.PIDFile))
	}
	if _, err := Abort(
		context.Background(),
		ResumeOptions{Store: r.Store, StateDir: r.StateDir, HealthURL: r.HealthURL},
	); err != nil {
		t.Fatal(err)
	}
	if got := contentsWithWAL(t, s); got != "old,old in the wal" {
		t.Errorf("the database says %q", got)
	}
	assertNoTraces(t, s)
}

func TestManagedRestoreStartsAgainWhatItStopped(t *testing.T) {
	t.Parallel()
	s := fullScene(t)
	in := newStandIn(t, s, func(*standIn) {})
	r := managedRequest(t, s, in)
	r.Service.Stop = []string{"sh", "-c", "echo cannot; exit 3"}
	r.Service.Start = []string{"touch", filepath.Join(s.base, "started")}
	_, err := Run(context.Background(), r)
	if err == nil || !strings.Contains(err.Error(), "it wrote: cannot") || !exists(filepath.Join(s.base, "started")) {
		t.Errorf("got %v", err)
	}
	r.Service.Stop, r.Service.FreeTimeout = []string{"true"}, time.Millisecond
	_, err = Run(context.Background(), r)
	if failure.KindOf(err) != failure.Refused || !strings.Contains(err.Error(), "is open in pid") {
		t.Errorf("a stop that stops nothing: %v", err)
	}
}

func TestRefusesWhileTheServiceRuns(t *testing.T) {
	t.Parallel()
	s := fullScene(t)
	in := newStandIn(t, s, func(*standIn) {})
	pid := mustRead(t, in.PIDFile)
	_, err := Run(context.Background(), s.mustRequest(t))
	want := fmt.Sprintf("restore refused: %s: database is open in pid %s (", s.stamp, pid)
	if failure.KindOf(err) != failure.Refused || !strings.HasPrefix(fmt.Sprint(err), want) ||
		!strings.HasSuffix(fmt.Sprint(err), "): "+stopHint) {
		t.Errorf("got %v", err)
	}
	// Only the health URL gives it away.
	elsewhere := httptest.NewServer(http.NotFoundHandler())
	defer elsewhere.Close()
	quiet := newScene(t)
	r := quiet.mustRequest(t)
	r.HealthURL = elsewhere.URL
	if _, err := Run(context.Background(), r); failure.KindOf(err) != failure.Refused ||
		!strings.Contains(err.Error(), "answers at") {
		t.Errorf("got %v", err)
	}
	elsewhere.Close()
	if _, err := Run(context.Background(), r); err != nil {
		t.Errorf("with nobody there: %v", err)
	}
}

func TestLiveDrill(t *testing.T) {
	t.Parallel()
	for _, sticky := range []bool{false, true} {
		t.Run(fmt.Sprintf("sticky %v", sticky), func(t *testing.T) {
			t.Parallel()
			s := fullScene(t)
			in := newStandIn(t, s, func(in *standIn) {
				if sticky {
					in.Sticky = filepath.Join(s.base, "sticky")
				}
			})
			request := managedRequest(t, s, in)
			request.Stamp = ""
			take := takeOptions()
			take.Chroma = chroma.Options{OptimisticTries: 5, LockDeadline: time.Minute}
			result, err := LiveDrill(
				context.Background(),
				LiveDrillRequest{Restore: request, APIURL: in.url("/"), Snapshot: take},
			)
			if err != nil {
				t.Fatal(err)
			}
			if result.Files != 13 || result.Bytes == 0 {
				t.Errorf("restored %d bytes in %d files", result.Bytes, result.Files)
			}
			if result.Passed == sticky || result.PreRestoreSnapshot == "" || result.Stamp == result.PreRestoreSnapshot {
				t.Errorf("sticky %v: %+v", sticky, result)
			}
			if sticky && !strings.Contains(strings.Join(result.Errors, ""), "still present") {
				t.Errorf("%v", result.Errors)
			}
			// What was there before is there again.
			if status, _ := get(context.Background(), in.url("/health")); status != 200 {
				t.Errorf("the service does not run: %d", status)
			}
		})
	}
}

func TestChecks(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path == "/teapot" {
			w.WriteHeader(http.StatusTeapot)
		}
		fmt.Fprintf(
			w,
			`{"documents": 3, "stats": {"rows": [1, 2]}, "method": %q, "body": %q, "words": "x"}`,
			r.Method,
			body,
		)
	}))
	defer server.Close()
	number := func(f float64) *float64 { return &f }
	for _, c := range []struct {
		check Check
		fails string
	}{
		{Check{}, ""},
		{Check{JSON: "documents", Min: number(3)}, ""},
		{Check{JSON: "documents", Min: number(4)}, "documents is 3, less than 4"},
		{Check{JSON: "stats.rows", Min: number(2)}, ""},
		{Check{JSON: "stats.rows.1", Min: number(2)}, ""},
		{Check{JSON: "stats.none"}, "has no stats.none"},
		{Check{JSON: "words", Min: number(1)}, "neither a number nor a list"},
		{Check{URL: "/teapot"}, "status 418, not 200"},
		{Check{URL: "/teapot", Status: 418}, ""},
		{Check{Method: "POST", Body: "hello", JSON: "body"}, ""},
		{Check{Method: "POST", Body: "hello", JSON: "body.no"}, "has no body.no"},
	} {
		c.check.URL = server.URL + c.check.URL
		err := c.check.once(context.Background(), "", nil)
		if (c.fails == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.fails) {
			t.Errorf("%+v: %v", c.check, err)
		}
	}
}

// An interruption lets the stop command end: what it had begun to stop would go down
// behind the start that follows.
func TestInterruptedWhileStopping(t *testing.T) {
	t.Parallel()
	s := fullScene(t)
	in := newStandIn(t, s, func(*standIn) {})
	r := managedRequest(t, s, in)
	stopping, log := filepath.Join(s.base, "stopping"), filepath.Join(s.base, "log")
	r.Service.Stop = append([]string{"sh", "-c",
		`(touch "$0"; log=$1; shift; sleep 0.5; "$@"; echo stopped >>"$log") & wait`, stopping, log}, r.Service.Stop...)
	r.Service.Start = append([]string{"sh", "-c", `echo started >>"$0"; "$@"`, log}, r.Service.Start...)
	ctx := endsWith(t, stopping)
	if _, err := Run(ctx, r); failure.KindOf(err) != failure.Interrupted {
		t.Fatalf("got %v", err)
	}
	if got := mustRead(t, log); got != "stopped\nstarted\n" {
		t.Errorf("the service was\n%s", got)
	}
	if status, err := get(context.Background(), in.url("/health")); err != nil || status != 200 {
		t.Errorf("the service does not run: %d, %v", status, err)
	}
	assertNoTraces(t, s)
}

// A command that is given up takes with it what it has started.
func TestCommandEndsWithItsChildren(t *testing.T) {
	t.Parallel()
	pid := filepath.Join(t.TempDir(), "pid")
	s := Service{CommandTimeout: time.Second}
	err := s.command(context.Background(), "stop", []string{"sh", "-c", `sleep 600 & echo $! >"$0"; wait`, pid})
	if err == nil {
		t.Fatal("it did not time out")
	}
	child, _ := strconv.Atoi(strings.TrimSpace(mustRead(t, pid)))
	for deadline := time.Now().Add(20 * time.Second); syscall.Kill(child, 0) == nil; time.Sleep(10 * time.Millisecond) {
		stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(child), "stat"))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("its child lives on")
		}
	}
}

// A service that cannot be started after a restore that did not come about, and that
// was never stopped, is not said to be down.
func TestServiceThatWasNeverStopped(t *testing.T) {
	t.Parallel()
	s := fullScene(t)
	r := managedRequest(t, s, newStandIn(t, s, func(*standIn) {}))
	r.Service.Stop, r.Service.Start = []string{"false"}, []string{"false"}
	_, err := Run(context.Background(), r)
	if text := fmt.Sprint(err); strings.Contains(text, "DOWN") || !strings.Contains(text, "the service answers") {
		t.Errorf("got %v", err)
	}
	assertNoTraces(t, s)
}

// TestStartedInTheMiddle has somebody open the live database just before it is
// moved, as a container does that comes back by itself: it is stopped again, and
// nobody goes on with files that were replaced.
func TestStartedInTheMiddle(t *testing.T) {
	if !alone(t) {
		return
	}
	for _, back := range []bool{false, true} {
		s := fullScene(t)
		in := newStandIn(t, s, func(*standIn) {})
		r := managedRequest(t, s, in)
		if back {
			r.Service.Checks = []Check{{SQL: "SELECT 0"}}
		}
		intruder, ended := exec.Command("sleep", "600"), make(chan error, 1)
		pid := filepath.Join(s.base, "intruder")
		r.Service.Stop = append([]string{"sh", "-c", `kill $(cat "$0"); test ! -e "$1" || { shift; exec "$@"; }`,
			pid, in.PIDFile}, r.Service.Stop...)
		checked, came := false, false
		stop := fsx.Observe(func(op fsx.Op, path string) error {
			j, err := pendingIn(s.backups())
			checked = checked || err == nil && j != nil && j.Phase == PhaseChecking
			if came || checked != back || op != fsx.OpRename || !strings.HasSuffix(path, "/atocore.db") {
				return nil
			}
			came = true
			f, err := os.Open(s.live().DB)
			if err != nil {
				return err
			}
			defer f.Close()
			intruder.Stdin = f
			if err := intruder.Start(); err != nil {
				return err
			}
			go func() { ended <- intruder.Wait() }()
			return os.WriteFile(pid, []byte(strconv.Itoa(intruder.Process.Pid)), 0o600)
		})
		res, err := Run(context.Background(), r)
		stop()
		if !came || (err != nil) != back || res.RolledBack != back {
			t.Fatalf("came %v: %+v, %v", came, res, err)
		}
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Error("who was started in the middle goes on with replaced files")
		}
		assertNoTraces(t, s)
	}
}

// A restore that was killed while the service was stopped says so when it is ended,
// whichever way and from whatever phase: nobody else starts the service.
func TestEndedRestoreSaysThatTheServiceIsStopped(t *testing.T) {
	if !alone(t) {
		return
	}
	for _, phase := range []Phase{PhaseStaging, PhaseSwapping, PhaseChecking, PhaseAnchoring} {
		for name, end := range map[string]func(context.Context, ResumeOptions) (Result, error){
			"resume": Resume, "abort": Abort,
		} {
			s := newScene(t)
			r := s.mustRequest(t)
			r.Service = &Service{Stop: []string{"true"}, Start: []string{"true"}}
			stop := fsx.Observe(func(fsx.Op, string) error {
				if j, err := pendingIn(s.backups()); err == nil && j != nil && j.Phase == phase {
					return errors.New("cut")
				}
				return nil
			})
			_, err := Run(context.Background(), r)
			stop()
			if err == nil {
				t.Fatal("it was not cut")
			}
			res, err := end(context.Background(), ResumeOptions{Store: r.Store, StateDir: r.StateDir})
			if err != nil || !strings.Contains(strings.Join(res.Warnings, "\n"), "had been stopped for this restore: start it") {
				t.Errorf("%s from %s: %v, %v", name, phase, res.Warnings, err)
			}
			assertNoTraces(t, s)
		}
	}
}

// endsWith is a context that is cancelled once a file is there.
func endsWith(t *testing.T, path string) context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	go func() {
		for !exists(path) && ctx.Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		cancel()
	}()
	return ctx
}
