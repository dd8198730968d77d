package sshdtest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// Stop ends the server and every session. It may be called several times.
func (s *Server) Stop() {
	for _, pid := range s.tree() {
		// A stopped process dies of SIGKILL too.
		syscall.Kill(pid, syscall.SIGKILL)
	}
	s.pids = nil
	if s.gone != nil {
		<-s.gone
	}
}

// StopListening ends the listener, so that connections are refused; sessions
// go on.
func (s *Server) StopListening() {
	listener := s.sshd.Process.Pid
	// Its sessions are found through it, so they are noted before it goes.
	s.pids = slices.DeleteFunc(s.tree(), func(pid int) bool { return pid == listener })
	syscall.Kill(listener, syscall.SIGKILL)
	<-s.gone
}

// Restart starts the server again on its port, after Stop or StopListening.
func (s *Server) Restart() {
	s.t.Helper()
	if !s.start(s.Port) {
		s.t.Fatalf("sshd does not start again: %s", s.Log())
	}
}

// StopAccepting stops the listener alone: the kernel still takes connections,
// but nobody ever says a word on them. Resume undoes it.
func (s *Server) StopAccepting() { s.must(syscall.Kill(s.sshd.Process.Pid, syscall.SIGSTOP)) }

// Stall stops the listener and every session: connections stay open and nothing
// answers, as when a machine has gone to sleep. Resume undoes it.
func (s *Server) Stall() { s.signal(syscall.SIGSTOP) }

// Resume undoes Stall and StopAccepting.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

// DropSessions kills every session; the listener stays.
func (s *Server) DropSessions() {
	for _, pid := range s.tree() {
		if pid != s.sshd.Process.Pid {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

func (s *Server) signal(sig syscall.Signal) {
	for _, pid := range s.tree() {
		syscall.Kill(pid, sig) // one may have just gone
	}
}

// tree returns the listener's and the sessions' processes, parents first.
func (s *Server) tree() []int {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // it has gone
		}
		// pid (command, which may hold anything) state parent …
		var state string
		var parent int
		if _, err := fmt.Sscan(string(data[bytes.LastIndexByte(data, ')')+1:]), &state, &parent); err != nil ||
			state == "Z" {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		children[parent] = append(children[parent], pid)
	}
	found := append([]int(nil), s.pids...)
	for i := 0; i < len(found); i++ {
		found = append(found, children[found[i]]...)
	}
	return found
}
