package web

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

const (
	headerTimeout = 10 * time.Second
	readTimeout   = 30 * time.Second // of a whole request with its body
	writeTimeout  = time.Minute      // of an answer; patient handlers have another
	idleTimeout   = 2 * time.Minute
	maxHeader     = 16 << 10
	maxBody       = 4 << 10

	// shutdownPatience is how long answers under way may take once the server
	// is to stop. A take is cancelled at once, and needs a moment to clean up.
	shutdownPatience = 10 * time.Second

	// Each look reads the catalog from the disk and each validation reads a whole
	// snapshot: whoever asks more often waits for the others.
	looksAtOnce       = 2
	validationsAtOnce = 1
)

// Options is what a Server needs besides its Source.
type Options struct {
	// TokenFile returns the path of the file that holds the bearer token that
	// allows writing; "" for none: then only this machine may write. It is asked
	// for, and the file read again, for each request that needs it. nil is none.
	TokenFile func() string

	// RequireToken reports whether programs on this machine need the token too. nil
	// is no.
	RequireToken func() bool

	// Report is told of failures that the client cannot mend, for the log. nil
	// tells nobody.
	Report func(error)
}

// Server answers the dashboard, the API and the metrics.
type Server struct {
	source    Source
	tokenFile func() string
	// requireToken is Options.RequireToken.
	requireToken func() bool
	writes       *rate.Limiter
	report       func(error)
	handler      http.Handler
	registry     *prometheus.Registry
	requests     *prometheus.CounterVec
	looks        chan struct{}
	validations  chan struct{}

	// life ends when Serve is told to stop. A take lives as long as it, not as
	// long as the connection that asked for it.
	life context.Context
	end  context.CancelFunc
}

// New makes a Server.
func New(source Source, o Options) *Server {
	s := &Server{
		source: source, tokenFile: o.TokenFile, requireToken: o.RequireToken, report: o.Report,
		writes: rate.NewLimiter(rate.Every(writeEvery), writeBurst),
		looks:  make(chan struct{}, looksAtOnce), validations: make(chan struct{}, validationsAtOnce),
	}
	if s.tokenFile == nil {
		s.tokenFile = func() string { return "" }
	}
	if s.requireToken == nil {
		s.requireToken = func() bool { return false }
	}
	if s.report == nil {
		s.report = func(error) {}
	}
	s.life, s.end = context.WithCancel(context.Background())
	s.registry, s.requests = newRegistry(s)
	s.handler = s.routes()
	return s
}

// Handler returns what answers requests, without the timeouts of Serve.
func (s *Server) Handler() http.Handler { return s.handler }

// Serve answers on the listener, which it closes, until ctx is done. Then it
// cancels takes that were asked for, and returns when the answers under way are
// given, or after some seconds. It can be called once.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	defer s.end()
	server := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          log.New(reporter(s.report), "", 0),
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		s.end()
		patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownPatience)
		defer cancel()
		err := server.Shutdown(patience)
		if err != nil {
			err = errors.Join(err, server.Close())
		}
		stopped <- err
	})
	err := server.Serve(listener)
	if !stop() && errors.Is(err, http.ErrServerClosed) {
		return <-stopped
	}
	return err
}

// reporter is a log's output that goes where failures go. net/http writes
// panics of handlers there, and what clients do wrong below HTTP, which is no
// business of this machine's operator.
type reporter func(error)

func (r reporter) Write(line []byte) (int, error) {
	if text := strings.TrimSpace(string(line)); strings.Contains(text, "panic") {
		r(errors.New(text))
	}
	return len(line), nil
}

// look asks the Source when it is this request's turn.
func (s *Server) look(ctx context.Context) (*State, error) {
	select {
	case s.looks <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-s.looks }()
	return s.source.Look(ctx, time.Now())
}
