package app

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"

	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/escape"
)

// NewLogger writes to w as [log] asks, with control characters escaped. journal says that w is the journal's: its
// lines then begin with the level that journald reads (sd-daemon(3)) and carry
// no time of their own.
func NewLogger(w io.Writer, c config.Log, journal bool) *slog.Logger {
	w = escape.Writer(w)
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		level = slog.LevelInfo
	}
	o := &slog.HandlerOptions{Level: level}
	switch {
	case c.Format == "json":
		return slog.New(slog.NewJSONHandler(w, o))
	case c.Format == "auto" && journal:
		return slog.New(newJournalHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// journalHandler puts "<6>" and its like before a text handler's lines.
type journalHandler struct {
	slog.Handler
	out *prefixWriter
}

func newJournalHandler(w io.Writer, o *slog.HandlerOptions) *journalHandler {
	o.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
			return slog.Attr{} // journald has both
		}
		return a
	}
	out := &prefixWriter{w: w}
	return &journalHandler{slog.NewTextHandler(out, o), out}
}

func (h *journalHandler) Handle(ctx context.Context, r slog.Record) error {
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	switch {
	case r.Level >= slog.LevelError:
		h.out.prefix = "<3>"
	case r.Level >= slog.LevelWarn:
		h.out.prefix = "<4>"
	case r.Level >= slog.LevelInfo:
		h.out.prefix = "<6>"
	default:
		h.out.prefix = "<7>"
	}
	return h.Handler.Handle(ctx, r)
}

func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &journalHandler{h.Handler.WithAttrs(attrs), h.out}
}

func (h *journalHandler) WithGroup(name string) slog.Handler {
	return &journalHandler{h.Handler.WithGroup(name), h.out}
}

// prefixWriter writes each record with its prefix in one piece.
type prefixWriter struct {
	mu     sync.Mutex
	prefix string
	w      io.Writer
}

func (p *prefixWriter) Write(line []byte) (int, error) {
	// A record is one line for journald; a line break inside would lose the level.
	text := p.prefix + strings.ReplaceAll(strings.TrimSuffix(string(line), "\n"), "\n", " ") + "\n"
	if _, err := io.WriteString(p.w, text); err != nil {
		return 0, err
	}
	return len(line), nil
}
