//go:build rig

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/provetest"
)

// slowCalls are what a file system takes its time for, and slowly a program that makes
// each of them 25 ms late.
const (
	slowCalls = `write,pwrite64,fsync,fdatasync,ftruncate,copy_file_range,/^rename,/^unlink,/^link,/^mkdir`
	slowly    = `strace -f --seccomp-bpf -o /dev/null -e trace=` + slowCalls + ` -e inject=` + slowCalls +
		`:delay_enter=25000`
)

// TestSweepSlow does each job while every call that changes a file is slow. What holds
// the lock is waited for, nobody is told what is not so, and all is as on a fast disk.
func TestSweepSlow(t *testing.T) {
	binary := buildProgram(t)
	for _, w := range sweeps {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			s := newTrustScene(t, binary)
			prepared(t, s, threeDays+w.prepare)
			w.slow(t, s)
			provetest.Points(t, 1)
		})
	}
}

func (w sweep) slow(t *testing.T, s *trustScene) {
	t.Helper()
	before := s.root(t, `a status`)
	began := time.Now()
	// Whoever needs what the job has locked waits for it.
	waited := s.root(t, `{ `+w.under(slowly)+`; echo "status $?"; } >said 2>&1 & `+
		`locked() { [ -e $1 ] && grep -q ":$(stat -c %i $1) " /proc/locks; }; `+
		`while kill -0 $! 2>/dev/null; do `+
		`locked backups/.lock && NEXT=backup && break; locked state/targets/disk/.lock && NEXT=sync && break; `+
		`sleep 0.05; done; [ -e config.toml ] && a status >during; [ "$NEXT" ] && a $NEXT; wait`)
	took := time.Since(began)
	said := output(t, s.dir, "cat", "said")
	if lastLine(said) != w.ends() || strings.Contains(said, "level=") {
		t.Errorf("it said %s", said)
	}
	if waited != "" && (lastLine(waited) != "status 0" || strings.Contains(waited, "level=")) {
		t.Errorf("who waited for it said %s", waited)
	}
	known := before + s.root(t, `a status`)
	during := s.root(t, `cat during 2>/dev/null`)
	for line := range strings.Lines(during) {
		isTold := strings.HasPrefix(line, "critical: ") || strings.HasPrefix(line, "warning: ")
		if isTold && !strings.Contains(line, " snapshot") && !strings.Contains(known, line) {
			t.Errorf("what is not true: %s in %s", line, during)
		}
	}
	t.Logf("%.1f s; meanwhile: %s", took.Seconds(), waited)
	w.check(t, s, w.name, said)
}
