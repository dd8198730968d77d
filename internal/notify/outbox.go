package notify

import (
	"context"
	"errors"
	"sync"
	"time"
)

// giveUpAfter is how often a message is sent to an address that refuses it,
// while another address has taken it.
const giveUpAfter = 8

// Outbox sends messages to every address and keeps those that an address did
// not take, while another did, to send them again. It is for one goroutine.
type Outbox struct {
	addresses []*address
	heard     func(key string, err error) // how each address took a message; may be nil
	waiting   []delivery
}

// delivery is a message that one address has not taken yet.
type delivery struct {
	to      *address
	message Message
	attempt int // that were made
	next    time.Time
}

// Len returns the number of addresses.
func (o *Outbox) Len() int { return len(o.addresses) }

// Watch has heard told from now on how each address, by its key, took a message;
// err is nil when it did. What was cut short says nothing about an address.
func (o *Outbox) Watch(heard func(key string, err error)) { o.heard = heard }

// Keys returns the keys of the addresses.
func (o *Outbox) Keys() (keys []string) {
	for _, a := range o.addresses {
		keys = append(keys, a.key)
	}
	return keys
}

// Send sends a message to all addresses at once and reports whether at least one
// took it. The others get it again from Retry. When none took it, nothing is
// kept: the caller tries again, with what is true by then. The error says what
// went wrong with which, whether or not the message got through.
func (o *Outbox) Send(ctx context.Context, now time.Time, m Message) (told bool, err error) {
	var all []delivery
	for _, a := range o.addresses {
		all = append(all, delivery{to: a, message: m})
	}
	failed, err := o.sendAll(ctx, all)
	if told = len(failed) < len(all); told {
		o.keep(failed, now)
	}
	return told, err
}

// Retry sends what is due again.
func (o *Outbox) Retry(ctx context.Context, now time.Time) error {
	var due, later []delivery
	for _, l := range o.waiting {
		// A clock that was put back must not hold a message for long.
		if now.Before(l.next) && l.next.Sub(now) <= Pause(l.attempt) {
			later = append(later, l)
		} else {
			due = append(due, l)
		}
	}
	o.waiting = later
	failed, err := o.sendAll(ctx, due)
	o.keep(failed, now)
	return err
}

func (o *Outbox) keep(failed []delivery, now time.Time) {
	for _, l := range failed {
		l.attempt++
		l.next = now.Add(Pause(l.attempt))
		if l.attempt < giveUpAfter {
			o.waiting = append(o.waiting, l)
		}
	}
}

// sendAll sends messages at once and returns those that were not taken.
func (o *Outbox) sendAll(ctx context.Context, all []delivery) (failed []delivery, err error) {
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, l := range all {
		wg.Go(func() { errs[i] = l.to.send(ctx, l.message) })
	}
	wg.Wait()
	for i, err := range errs {
		if o.heard != nil && ctx.Err() == nil {
			o.heard(all[i].to.key, err)
		}
		if err != nil {
			failed = append(failed, all[i])
		}
	}
	return failed, errors.Join(errs...)
}

// Pause is how long to wait after the n-th vain attempt (from 1) to tell
// somebody: 1, 5, 15, and then 60 minutes.
func Pause(attempt int) time.Duration {
	switch attempt {
	case 0, 1:
		return time.Minute
	case 2:
		return 5 * time.Minute
	case 3:
		return 15 * time.Minute
	}
	return time.Hour
}
