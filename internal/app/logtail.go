package app

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// logTail keeps the newest log lines, for heartbeats to carry.
type logTail struct {
	mu    sync.Mutex
	lines []tailLine // oldest first, at most tailKept
}

type tailLine struct {
	at   time.Time
	text string
}

const (
	tailKept   = 200
	tailLength = 400 // bytes of one line
)

// KeepLog has the newest lines of the log kept from now on.
func (a *App) KeepLog() {
	a.process.tail = &logTail{}
	a.Options.Log = slog.New(&tailHandler{Handler: a.Options.Log.Handler(), tail: a.process.tail})
}

// add keeps one line.
func (t *logTail) add(at time.Time, text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(text) > tailLength {
		text = strings.ToValidUTF8(text[:tailLength], "") + "…"
	}
	if t.lines = append(t.lines, tailLine{at, text}); len(t.lines) > tailKept {
		t.lines = t.lines[len(t.lines)-tailKept:]
	}
}

// since returns the newest lines that were logged from a time on.
func (t *logTail) since(at time.Time) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lines []string
	for _, l := range t.lines {
		if !l.at.Before(at) {
			lines = append(lines, l.text)
		}
	}
	return lines[max(0, len(lines)-tailLines):]
}

// tailHandler hands each record on, and keeps it as a line.
type tailHandler struct {
	slog.Handler
	tail *logTail
	more []slog.Attr // of With
}

// Handle implements slog.Handler.
func (h *tailHandler) Handle(ctx context.Context, r slog.Record) error {
	var line bytes.Buffer
	text := slog.NewTextHandler(&line, nil)
	kept := r.Clone()
	kept.AddAttrs(h.more...)
	if err := text.Handle(ctx, kept); err == nil {
		h.tail.add(r.Time, strings.TrimSpace(line.String()))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h *tailHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &tailHandler{h.Handler.WithAttrs(attrs), h.tail, append(h.more[:len(h.more):len(h.more)], attrs...)}
}

// WithGroup implements slog.Handler. No group is used here: its name is left out
// of the kept line.
func (h *tailHandler) WithGroup(name string) slog.Handler {
	return &tailHandler{h.Handler.WithGroup(name), h.tail, h.more}
}
