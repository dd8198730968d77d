//go:build rig

package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/provetest"
)

// restoreFault is what happens to a managed restore, and what somebody mends when it
// has ended.
type restoreFault struct {
	strike func(r *faultyRound, restore *os.Process)
	mend   func()
	// harmed is set where the service itself was harmed: whoever did it sees that it
	// runs again, whatever the restore said.
	harmed bool
}

// faultyDeployment is a deployment whose store is in one of two states, each with a
// snapshot and with a mark in the database, in the registry and in Chroma.
type faultyDeployment struct {
	*deployment
	random *rand.Rand
	stamps map[string]string // of each state
	faults map[string]restoreFault
}

const healthLine = `curl -fsS -m 5 -o /dev/null $URL/health`

// TestDeploymentFaults has managed restores in a real Docker meet a fault at a random
// moment each. Afterwards it does what the program and the runbook tell the operator,
// and no more: then the application must run on whole data, old or new, as the
// program said, and no write that it confirmed may be lost.
func TestDeploymentFaults(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("ATOBACKUPD_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		must(t, err)
	}
	t.Logf("ATOBACKUPD_SEED=%d", seed)
	d := newFaultyDeployment(t, rand.New(rand.NewPCG(seed, 0)))
	d.tryEach(provetest.Rounds(t, 4))
}

func newFaultyDeployment(t *testing.T, random *rand.Rand) *faultyDeployment {
	t.Helper()
	const port = "8143" // not init's own: another deployment may be up
	d := &faultyDeployment{deployment: newDeployment(t, buildProgram(t), port), random: random,
		stamps: map[string]string{}}
	t.Setenv("URL", "http://127.0.0.1:"+port)
	// As AtoCore is deployed: its containers come back by themselves, after a crash
	// and when Docker is started.
	d.ok(`sed -i 's/^    init: true/&\n    restart: always/' $COMPOSE; docker compose -f $COMPOSE up -d
		a init --yes --db $PWD/store/data/db/atocore.db --state-dir $PWD/state --compose $COMPOSE --health-url $URL/health
		chown root store/backups; sed -i 's/^health_timeout.*/health_timeout = "20s"/' etc/config.toml`)
	for _, state := range []string{"one", "other"} {
		d.mark(state)
		d.stamps[state] = regexp.MustCompile(`(?m)^\d{8}T\d{6}Z`).FindString(d.ok("a backup --chroma", "valid"))
	}
	d.faults = map[string]restoreFault{
		"application stuck": {strike: func(*faultyRound, *os.Process) { d.signalApplication("STOP") },
			mend: func() { d.signalApplication("CONT") }},
		"compose file gone": {strike: func(*faultyRound, *os.Process) { d.ok(`mv $COMPOSE $COMPOSE.aside`) },
			mend: func() { d.ok(`mv $COMPOSE.aside $COMPOSE`) }, harmed: true},
		// An application that does not take the older data: it ends as it starts.
		"data refused":    {strike: (*faultyRound).refuseData, mend: func() { d.ok(`: >app/atocore/__init__.py`) }},
		"started by hand": {strike: func(*faultyRound, *os.Process) { d.compose("up -d") }},
		"stopped by hand": {strike: func(*faultyRound, *os.Process) { d.compose("down") }, harmed: true},
		"dockerd killed": {strike: func(*faultyRound, *os.Process) { d.killDocker(d.within(3 * time.Second)) },
			harmed: true},
		"dockerd stalled, interrupted": {strike: func(_ *faultyRound, p *os.Process) {
			d.ok(`kill -STOP $(cat dockerd.pid)`)
			time.Sleep(d.within(2 * time.Second))
			_ = p.Signal(os.Interrupt)
			time.Sleep(d.within(2 * time.Second))
			d.ok(`kill -CONT $(cat dockerd.pid)`)
		}},
		"interrupted":    {strike: func(_ *faultyRound, p *os.Process) { _ = p.Signal(os.Interrupt) }},
		"killed":         {strike: func(_ *faultyRound, p *os.Process) { _ = p.Kill() }},
		"second restore": {strike: (*faultyRound).restoreAlso},
	}
	return d
}

// within returns a random time up to most.
func (d *faultyDeployment) within(most time.Duration) time.Duration {
	return time.Duration(d.random.Int64N(int64(most)))
}

// compose is docker compose as somebody types it, who does not look how it ends.
func (d *faultyDeployment) compose(what string) string {
	out, _ := d.run(`docker compose -f $COMPOSE ` + what)
	return out
}

// signalApplication signals the application inside its container, where there is one.
func (d *faultyDeployment) signalApplication(name string) {
	d.run(`pkill -` + name + ` -P $(docker inspect -f '{{.State.Pid}}' atocore-atocore-1)`)
}

// mark puts the store into a state.
func (d *faultyDeployment) mark(state string) {
	d.t.Helper()
	d.ok(`until ` + healthLine + `; do sleep 0.3; done
		sqlite3 store/data/db/atocore.db ".timeout 9000" "delete from memories where project = 'mark'" \
			"insert into memories(project, content) values('mark', '` + state + `')"
		python3 - <<-'END'
			import json
			f = open("store/config/project-registry.json", "r+"); doc = json.load(f); doc["mark"] = "` + state + `"
			f.seek(0); f.truncate(); json.dump(doc, f)
		END
		docker compose -f $COMPOSE exec -T atocore python - <<-'END'
			import json, urllib.request
			from atocore import store
			def chroma(method, path, body=None):
			    r = urllib.request.Request(store.CHROMA_URL + path, method=method, data=body and json.dumps(body).encode(),
			                               headers={"Content-Type": "application/json"})
			    return json.loads(urllib.request.urlopen(r).read() or "null")
			for c in chroma("GET", "/collections"):
			    if c["name"].startswith("mark-"): chroma("DELETE", "/collections/" + c["name"])
			chroma("POST", "/collections", {"name": "mark-` + state + `"})
		END`)
	if got := d.state(); got != state {
		d.t.Fatalf("the store is %q, not %q", got, state)
	}
}

// killDocker kills Docker's daemon, and starts it again after a while.
func (d *faultyDeployment) killDocker(after time.Duration) {
	d.t.Helper()
	d.ok(`mapfile -d '' -t argv </proc/$(cat dockerd.pid)/cmdline; kill -STOP $(cat dockerd.pid)
		# They would outlive it, and hold the ports of containers that it has forgotten.
		pkill -KILL -P $(cat dockerd.pid) docker-proxy || true
		kill -KILL $(cat dockerd.pid)
		rm dockerd.pid # a dockerd that nobody has waited for yet would look alive
		sleep ` + strconv.FormatFloat(after.Seconds(), 'f', 2, 64) + `
		for i in $(seq 9); do # as systemd does: the first may find containerd not gone yet
			setsid "${argv[@]}" >>dockerd.log 2>&1 </dev/null & pid=$!
			while kill -0 $pid; do docker info && exit; sleep 0.2; done >/dev/null 2>&1
			rm -f docker/network/files/local-kv.db # a network that was half made has it panic from then on
		done
		tail dockerd.log; exit 1`)
}

// restore starts a managed restore of a state's snapshot.
func (d *faultyDeployment) restore(state string, out *bytes.Buffer) *exec.Cmd {
	cmd := exec.Command("bash", "-c",
		`. ./env; exec "$BINARY" --config "$PWD/etc/config.toml" restore "$0" --manage-service`, d.stamps[state])
	cmd.Dir, cmd.Stdout, cmd.Stderr = d.dir, out, out
	cmd.Env = append(os.Environ(), "HOME="+filepath.Join(d.dir, "home"))
	return cmd
}

// tryEach has a restore meet each fault in turn.
func (d *faultyDeployment) tryEach(rounds int) {
	t := d.t
	kinds := slices.Sorted(maps.Keys(d.faults))
	d.random.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	live, other := "other", "one"
	usual := time.Duration(0)
	ends := map[string][]string{}
	for n := range rounds + 1 {
		kind, fault := "none", restoreFault{}
		if n > 0 {
			kind = kinds[(n-1)%len(kinds)]
			fault = d.faults[kind]
		}
		r := &faultyRound{faultyDeployment: d, old: live, new: other, kind: kind, fault: fault}
		now := r.play(usual)
		if n == 0 || r.status == 0 { // the machine may be busier at one time than at another
			usual = min(cmp.Or(usual, r.took), r.took)
		}
		ends[kind] = append(ends[kind], fmt.Sprintf("%d", r.status))
		if t.Failed() {
			break // what follows is of the same
		}
		if now == other {
			live, other = other, live
		}
	}
	d.points = rounds
	t.Logf("a restore takes %s; how they ended: %v", usual, ends)
}

// faultyRound is one restore.
type faultyRound struct {
	*faultyDeployment
	old, new string
	kind     string
	fault    restoreFault
	status   int
	took     time.Duration
	said     strings.Builder // by every command, one after the other
	verdict  string          // what the program last said of the store: old, new, or nothing
	told     bool            // to start the service
}

// play restores, meets the fault, does what the operator is told, and judges. It
// returns the state that is live then.
func (r *faultyRound) play(usual time.Duration) (state string) {
	t := r.t
	t.Helper()
	stopWriting := r.write()
	var out bytes.Buffer
	restore := r.restore(r.new, &out)
	began := time.Now()
	must(t, restore.Start())
	var moment time.Duration
	if r.fault.strike != nil {
		moment = r.within(usual)
		time.Sleep(moment)
		r.fault.strike(r, restore.Process)
	}
	_ = restore.Wait()
	r.took, r.status = time.Since(began), restore.ProcessState.ExitCode()
	fmt.Fprintf(&r.said, "%s at %s of %s: exit %d after %s\n", r.kind, moment, usual, r.status, r.took)
	r.hear(out.String())
	if r.fault.mend != nil {
		r.fault.mend()
	}
	r.settle()
	r.start()
	state = r.judge()
	acked := stopWriting()
	r.judgeWrites(acked)
	r.judgeLeftovers()
	t.Log(r.said.String())
	return state
}

// refuseData has the application end where it starts on the data that are restored.
func (r *faultyRound) refuseData(*os.Process) {
	r.ok(`cat >app/atocore/__init__.py <<-'END'
		import sqlite3
		marks = sqlite3.connect("/srv/data/db/atocore.db").execute("select content from memories where project = 'mark'")
		if ("` + r.new + `",) in marks.fetchall(): raise SystemExit("these data are too old")
		END`)
}

// restoreAlso restores the same a second time, and waits a second for the lock.
func (r *faultyRound) restoreAlso(*os.Process) {
	out, status := r.run("a restore " + r.stamps[r.new] + " --manage-service --lock-timeout 1s")
	fmt.Fprintf(&r.said, "the second one: exit %d\n", status)
	r.hear(out)
	if status != 0 && status != 5 {
		r.t.Errorf("a second restore ends with %d", status)
	}
}

// hear takes in what the program said.
func (r *faultyRound) hear(out string) {
	fmt.Fprintf(&r.said, "\t%s\n", strings.ReplaceAll(strings.TrimSpace(out), "\n", "\n\t"))
	for _, word := range []struct{ form, verdict string }{
		{`(?m)^restored `, r.new},
		{`it was left restored|the store is restored`, r.new},
		{`the live store was not touched|the live store is what it was|everything was put back|(?m)^put back:`, r.old},
	} {
		if regexp.MustCompile(word.form).MatchString(out) {
			r.verdict = word.verdict
		}
	}
	if regexp.MustCompile(`start it|see that it runs|the service is not well`).MatchString(out) {
		r.told = true
	}
	if strings.Contains(out, "panic:") {
		r.t.Errorf("it panicked:\n%s", &r.said)
	}
}

// settle ends a restore that stands, as the program says.
func (r *faultyRound) settle() {
	for range 5 {
		pending, _ := r.run("a list >/dev/null")
		if !strings.Contains(pending, "restore pending") {
			return
		}
		r.hear(pending)
		ways := regexp.MustCompile("restore (--resume|--abort)`").FindAllStringSubmatch(pending, -1)
		if ways == nil {
			r.t.Errorf("refused, and no way out is named:\n%s", &r.said)
			return
		}
		way := ways[r.random.IntN(len(ways))][1]
		out, status := r.run("a restore " + way)
		fmt.Fprintf(&r.said, "restore %s: exit %d\n", way, status)
		r.hear(out)
		if strings.Contains(out, "stop it first") {
			r.compose("down")
			r.told = true // who stops it starts it
			out, status = r.run("a restore " + way)
			fmt.Fprintf(&r.said, "restore %s after docker compose down: exit %d\n", way, status)
			r.hear(out)
		}
	}
}

// start starts the service where that is what the operator was told, and waits
// until it answers and goes on to.
func (r *faultyRound) start() {
	const steady = 8
	answers, failed := 0, false
	for deadline := time.Now().Add(time.Minute); answers < steady; time.Sleep(250 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("the service does not run, and nobody was told:\n%s\n%s", &r.said, r.compose("ps -a"))
		}
		if _, status := r.run(healthLine); status != 0 {
			answers = 0
			if r.fault.harmed && failed { // a killed dockerd may have left half a container
				r.compose("down")
			}
			if r.told || r.fault.harmed {
				r.compose("up -d")
			}
			failed = true
			continue
		}
		answers++
	}
}

// state asks the application and looks at the files which state the store is in.
func (d *faultyDeployment) state() string {
	d.t.Helper()
	out := d.ok(`python3 - <<-'END'
			import json, os, urllib.request
			def get(path, body=None):
			    return json.loads(urllib.request.urlopen(os.environ["URL"] + path, body, timeout=20).read())
			for m in get("/memory?project=mark")["memories"]: print("database", m["content"])
			print("registry", get("/projects")["mark"])
			stats = get("/stats")
			assert stats["chunks"]
			for name in stats["vectors"]:
			    if name.startswith("mark-"): print("chroma", name[5:])
			get("/context/build", b'{"prompt": "what is p05 about"}')
		END
		q() { sqlite3 -readonly -separator ' ' store/data/$1 ".timeout 9000" "$2"; }
		q db/atocore.db "select 'file', content from memories where project = 'mark'"
		q chroma/chroma.sqlite3 "select 'files', substr(name, 6) from collections where name like 'mark-%'"`)
	states := map[string]bool{}
	for line := range strings.Lines(out) {
		_, state, _ := strings.Cut(strings.TrimSpace(line), " ")
		states[state] = true
	}
	if len(states) != 1 || strings.Count(out, "\n") != 5 {
		d.t.Errorf("a mixture:\n%s", out)
	}
	for state := range states {
		return state
	}
	return ""
}

// judge looks that the application runs on whole data, and on what the program said.
func (r *faultyRound) judge() (state string) {
	t := r.t
	state = r.state()
	probe := fmt.Sprintf("probe %d", time.Now().UnixNano())
	r.ok(`curl -fsS $URL/memory -d '{"memory_type": "episodic", "content": "`+probe+`"}'; echo
		sqlite3 -readonly store/data/db/atocore.db ".timeout 9000" "select content from memories where content = '`+probe+`'"
		sqlite3 -readonly store/data/db/atocore.db ".timeout 9000" "pragma integrity_check"`, `(?m)^`+probe+`$`, `(?m)^ok$`)
	stale := r.ok(`find /proc/[0-9]*/fd -lname '/srv/data/*' -printf '%p %l\n' 2>/dev/null |
		grep -e '(deleted)' -e .atobackupd-restore || true`)
	if stale != "" {
		t.Errorf("the application has replaced files open:\n%s", stale)
	}
	if r.verdict != "" && state != r.verdict {
		t.Errorf("the store is %q, and was said to be %q", state, r.verdict)
	}
	if r.status == 0 && r.verdict != r.new {
		t.Errorf("exit 0, and the new data do not stand")
	}
	return state
}

// write has somebody use the application all the time. stop returns what the
// application has confirmed.
func (r *faultyRound) write() (stop func() (acked []string)) {
	ctx, cancel := context.WithCancel(context.Background())
	var acked []string
	var done sync.WaitGroup
	url := os.Getenv("URL") + "/memory"
	name := fmt.Sprintf("write %d", time.Now().UnixNano())
	done.Go(func() {
		client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		for n := 0; ctx.Err() == nil; n++ {
			content := fmt.Sprintf("%s %d", name, n)
			body, _ := json.Marshal(map[string]string{"memory_type": "episodic", "content": content})
			answer, err := client.Post(url, "application/json", bytes.NewReader(body))
			if err == nil {
				if answer.StatusCode == http.StatusOK {
					acked = append(acked, content)
				}
				_ = answer.Body.Close()
			}
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	return func() []string {
		cancel()
		done.Wait()
		return acked
	}
}

// judgeWrites wants each confirmed write in the live store, in a snapshot, or in
// what the program said that it moved aside.
func (r *faultyRound) judgeWrites(acked []string) {
	r.t.Helper()
	all := r.ok(`q() { sqlite3 "$@" ".timeout 9000" "select content from memories where content like 'write %'"; }
		q -readonly store/data/db/atocore.db
		for db in store/backups/snapshots/*/db/atocore.db; do q "file:$db?mode=ro&immutable=1"; done
		for db in store/data/db/.atobackupd-restore*.kept/atocore.db*; do
			case $db in *-wal | *-shm | *\**) ;; *) q "$db" ;; esac
		done`)
	found := map[string]bool{}
	for line := range strings.Lines(all) {
		found[strings.TrimSpace(line)] = true
	}
	acked = slices.DeleteFunc(acked, func(s string) bool { return found[s] })
	if len(acked) > 0 {
		r.t.Errorf("%d confirmed writes are lost, from %q to %q:\n%s", len(acked), acked[0], acked[len(acked)-1], &r.said)
	}
}

// judgeLeftovers wants nothing of the restore left but what it said is the operator's.
func (r *faultyRound) judgeLeftovers() {
	r.t.Helper()
	left := r.ok(`find store state -name '.atobackupd-restore*' -prune -print -o -name restore-journal.json -print`)
	for path := range strings.Lines(left) {
		path = strings.TrimSpace(path)
		if !strings.HasSuffix(path, ".kept") || !strings.Contains(r.said.String(), filepath.Join(r.dir, path)) {
			r.t.Errorf("%s is left:\n%s", path, &r.said)
		}
	}
	r.ok(`find store -name '.atobackupd-restore*.kept' -prune -exec rm -r {} +`)
}
