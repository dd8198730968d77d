package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/web"
	"github.com/atocore/atobackupd/snapshot"
)

// alarmHTTP names the alarm of an address that cannot be listened on.
const alarmHTTP = "http"

// httpStopTimeout is a little more than the server needs by itself.
const httpStopTimeout = 15 * time.Second

// serveHTTP answers at http.listen until ctx is done, and returns what waits for
// the end of that. An address that is taken is an alarm and no reason to take no
// snapshots.
func (d *daemon) serveHTTP(ctx context.Context) (stopped func(context.Context) error) {
	address := d.app().Config.HTTP.Listen
	if address == "" {
		return func(context.Context) error { return nil }
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		d.app().Options.Log.Error("the dashboard and the API are not served", "error", err)
		d.life.bad(alarmHTTP, health.Trouble{Message: fmt.Sprintf("the dashboard and the API are not served: %v", err),
			Hint: "free the address and restart, or change http.listen"})
		d.alarmLoop.wakeUp()
		return func(context.Context) error { return nil }
	}
	server := web.New(httpSource{d}, web.Options{
		TokenFile:    func() string { return d.app().Config.HTTP.TokenFile },
		RequireToken: func() bool { return d.app().Config.HTTP.RequireToken },
		Report:       func(err error) { d.app().Options.Log.Error("http", "error", err) },
	})
	d.app().Options.Log.Info("serving the dashboard and the API", "address", "http://"+listener.Addr().String())
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, listener) }()
	return func(patience context.Context) error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-patience.Done():
			return patience.Err()
		}
	}
}

// httpSource is what the server shows and does, by the configuration that is in
// force when it is asked.
type httpSource struct{ d *daemon }

// Look returns how everything stands.
func (s httpSource) Look(ctx context.Context, now time.Time) (*web.State, error) {
	state, err := webState(ctx, s.d.app(), now)
	if err != nil {
		return nil, err
	}
	for _, job := range s.d.scheduler.Status() {
		for i := range state.Targets {
			if t := &state.Targets[i]; app.SyncJob(t.Name) == job.Name && (t.Behind > 0 || t.LastError != "") {
				t.NextTry = job.Next
			}
		}
	}
	return state, nil
}

// Validate reads one snapshot again.
func (s httpSource) Validate(ctx context.Context, stamp snapshot.Stamp) (snapshot.Result, error) {
	return s.d.app().Validate(ctx, stamp)
}

// Backup takes a snapshot and has it sent off-site. It does not wait for a lock:
// the client is told that another job holds it. Nothing is pruned until the next
// take by the clock: whoever takes two snapshots within a day has a reason, and
// retention would keep only the second.
func (s httpSource) Backup(ctx context.Context, includeChroma bool) (any, error) {
	a := s.d.app()
	if includeChroma && a.Config.AtoCore.ChromaPath == "" {
		return nil, &failure.Error{Op: "backup", Subject: "include_chroma", Kind: failure.Usage,
			Err:  errors.New("there is no Chroma directory here to include"),
			Hint: "set atocore.chroma_path, or ask without it"}
	}
	log, start := a.Options.Log.With("job", "backup"), time.Now()
	log.Info("started", "by", "http", "full", includeChroma)
	taken, err := a.BackupNow(ctx, snapshot.Manual, includeChroma)
	if err != nil {
		log.Info("failed") // the error is the server's to tell
		return nil, err
	}
	log.Info("done", "stamp", taken.Stamp, "duration", time.Since(start).Round(time.Millisecond))
	for _, t := range a.Config.Offsite {
		s.d.trigger(app.SyncJob(t.Name))
	}
	return taken, nil
}
