package fsx_test

import (
	"context"
	"errors"
	"runtime"
	"testing"

	"github.com/atocore/atobackupd/internal/fsx"
)

// Work waits while every core has some, is given up with the reason of its context,
// and runs once a core is free.
func TestOnCore(t *testing.T) {
	busy := runtime.GOMAXPROCS(0)
	running, end, ended := make(chan struct{}), make(chan struct{}), make(chan error)
	for range busy {
		go func() {
			ended <- fsx.OnCore(t.Context(), func() error {
				running <- struct{}{}
				<-end
				return nil
			})
		}()
	}
	for range busy {
		<-running
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	given := errors.New("given up")
	cancel(given)
	err := fsx.OnCore(ctx, func() error {
		t.Error("it ran on a core that is busy")
		return nil
	})
	if !errors.Is(err, given) {
		t.Errorf("error %v", err)
	}
	waiting, letGo := context.WithCancelCause(t.Context())
	waits := make(chan error)
	go func() { waits <- fsx.OnCore(waiting, func() error { return nil }) }()
	letGo(given)
	if err := <-waits; !errors.Is(err, given) {
		t.Errorf("while it waits: error %v", err)
	}
	close(end)
	for range busy {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	failed := errors.New("failed")
	if err := fsx.OnCore(t.Context(), func() error { return failed }); err != failed {
		t.Errorf("error %v", err)
	}
}
