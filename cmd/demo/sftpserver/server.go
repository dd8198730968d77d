// Package sftpserver is a small SSH and SFTP server inside this process, on
// loopback: the second machine of the demonstration, where none may be there. It
// is no place for real backups.
//
// It serves one directory to one key and nothing outside of it. Its rename does
// not replace, and it flushes a file when it is closed and a directory when it
// changes. It offers no fsync@openssh.com, which the SFTP library does not know, so
// its clients cannot see that.
package sftpserver

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// Server is a running server.
type Server struct {
	listener net.Listener
	root     *os.Root
	hostKey  ssh.PublicKey
	config   *ssh.ServerConfig
	stop     func() bool // forgets the context that Start was given

	mu    sync.Mutex
	conns map[net.Conn]bool // nil once closed
	wg    sync.WaitGroup
}

// Start serves the directory root on a free port of 127.0.0.1, to whoever holds
// the private half of authorizedKey (a line of authorized_keys), under any user
// name. A path of "/" is the directory itself. It ends with ctx or Close.
func Start(ctx context.Context, root, authorizedKey string) (*Server, error) {
	allowed, _, _, _, err := ssh.ParseAuthorizedKey([]byte(authorizedKey))
	if err != nil {
		return nil, fmt.Errorf("authorized key: %w", err)
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.NewSignerFromSigner(private)
	if err != nil {
		return nil, err
	}
	s := &Server{hostKey: signer.PublicKey(), conns: map[net.Conn]bool{}}
	s.config = &ssh.ServerConfig{PublicKeyCallback: only(allowed)}
	s.config.AddHostKey(signer)
	if s.root, err = os.OpenRoot(root); err != nil {
		return nil, err
	}
	if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		s.root.Close()
		return nil, err
	}
	s.wg.Go(s.accept)
	s.stop = context.AfterFunc(ctx, func() { s.end() })
	return s, nil
}

// only lets one key in.
func only(allowed ssh.PublicKey) func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) {
	return func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if bytes.Equal(key.Marshal(), allowed.Marshal()) {
			return &ssh.Permissions{}, nil
		}
		return nil, errors.New("unknown key")
	}
}

// Addr returns where it listens.
func (s *Server) Addr() *net.TCPAddr { return s.listener.Addr().(*net.TCPAddr) }

// KnownHostsLine returns the line of known_hosts by which its client knows it,
// with a newline.
func (s *Server) KnownHostsLine() string {
	return knownhosts.Line([]string{s.Addr().String()}, s.hostKey) + "\n"
}

// Close ends every connection and waits until nothing is served any more.
func (s *Server) Close() error {
	s.stop()
	return s.end()
}

func (s *Server) end() error {
	s.mu.Lock()
	for conn := range s.conns {
		conn.Close()
	}
	first := s.conns != nil
	s.conns = nil
	s.mu.Unlock()
	s.listener.Close()
	s.wg.Wait()
	if !first {
		return nil
	}
	return s.root.Close()
}

func (s *Server) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		if !s.enter(conn) {
			conn.Close()
			return
		}
		s.wg.Go(func() {
			defer s.leave(conn)
			s.serve(conn)
		})
	}
}

func (s *Server) enter(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil {
		return false
	}
	s.conns[conn] = true
	return true
}

func (s *Server) leave(conn net.Conn) {
	conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
}

// serve speaks with one client until it goes.
func (s *Server) serve(raw net.Conn) {
	conn, channels, requests, err := ssh.NewServerConn(raw, s.config)
	if err != nil {
		return
	}
	defer conn.Close()
	go ssh.DiscardRequests(requests) // answers keepalives
	for newChannel := range channels {
		if newChannel.ChannelType() != "session" {
			newChannel.Reject(ssh.UnknownChannelType, "sessions only")
			continue
		}
		channel, requests, err := newChannel.Accept()
		if err != nil {
			return
		}
		s.wg.Go(func() { s.session(channel, requests) })
	}
}

// session answers one request: the subsystem sftp.
func (s *Server) session(channel ssh.Channel, requests <-chan *ssh.Request) {
	defer channel.Close()
	for r := range requests {
		var subsystem struct{ Name string }
		ok := r.Type == "subsystem" && ssh.Unmarshal(r.Payload, &subsystem) == nil && subsystem.Name == "sftp"
		r.Reply(ok, nil)
		if !ok {
			continue
		}
		go ssh.DiscardRequests(requests)
		f := &files{root: s.root}
		server := sftp.NewRequestServer(channel, sftp.Handlers{FileGet: f, FilePut: f, FileCmd: f, FileList: f})
		server.Serve() // ends with the channel
		server.Close()
		return
	}
}
