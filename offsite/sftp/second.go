package sftp

import (
	"context"
	"sync"
)

// second is another SFTP server on the same connection, where the transport can
// have one. OpenSSH's handles one request after the other, so while it flushes an
// object to its disk it takes no byte of the next; two of them take turns. Only
// Puts use it, and it is started by the first that meets another under way.
type second struct {
	begin sync.Once

	mu     sync.Mutex
	remote *Remote // nil: there is none, or not yet
	ended  bool
}

// leastBusy returns the server for one more Put. None waits for a second server to
// come up: one that never does leaves all Puts to the first.
func (r *Remote) leastBusy() *Remote {
	if r.puts.Load() == 0 || r.watch.link.another == nil {
		return r
	}
	r.second.begin.Do(func() { go r.startSecond() })
	if s := r.second.get(); s != nil && s.puts.Load() < r.puts.Load() {
		return s
	}
	return r
}

// startSecond returns when the second server has answered or the connection has
// ended, which is watched elsewhere.
func (r *Remote) startSecond() {
	l, settled, err := r.watch.link.another()
	if err != nil {
		return // so many are not allowed there
	}
	s, err := newRemote(context.Background(), r.host, l, r.cfg)
	if err != nil {
		return
	}
	settled()
	s.common, s.grace = r.common, r.grace
	r.second.set(s)
}

func (s *second) get() *Remote {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.remote
}

func (s *second) set(r *Remote) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		r.Close()
		return
	}
	s.remote = r
}

func (s *second) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	if s.remote != nil {
		s.remote.Close()
	}
}
