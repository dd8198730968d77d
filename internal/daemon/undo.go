package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// undo holds how to let go of what was acquired, each step written down beside
// its acquisition.
type undo struct{ steps []undoStep }

type undoStep struct {
	what  string
	limit time.Duration
	do    func(context.Context) error
}

// add notes how to let go of something, and how long that may take.
func (u *undo) add(what string, limit time.Duration, do func(context.Context) error) {
	u.steps = append(u.steps, undoStep{what, limit, do})
}

// run lets go of everything, last acquired first. A step that fails or hangs
// keeps the others from nothing; the errors come together.
func (u *undo) run() error {
	var errs []error
	for len(u.steps) > 0 {
		step := u.steps[len(u.steps)-1]
		u.steps = u.steps[:len(u.steps)-1]
		if err := step.bounded(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", step.what, err))
		}
	}
	return errors.Join(errs...)
}

// bounded does the step and waits for it no longer than its limit.
func (s undoStep) bounded() error {
	ctx, cancel := context.WithTimeout(context.Background(), s.limit)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.do(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("not done within %s", s.limit)
	}
}
