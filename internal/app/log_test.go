package app

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/internal/config"
)

func TestJournalLines(t *testing.T) {
	var out bytes.Buffer
	log := NewLogger(&out, config.Log{Level: "debug", Format: "auto"}, true)
	log.Debug("d")
	log.With("job", "daily").Info("i", "n", 1)
	log.Warn("w")
	log.WithGroup("g").Error("e", "error", errors.New("two\nlines"))
	want := "<7>msg=d\n<6>msg=i job=daily n=1\n<4>msg=w\n<3>msg=e g.error=\"two\\nlines\"\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

func TestLogFormats(t *testing.T) {
	var out bytes.Buffer
	NewLogger(&out, config.Log{Level: "warn", Format: "json"}, true).Info("not this")
	NewLogger(&out, config.Log{Level: "warn", Format: "json"}, true).Warn("this")
	var line struct{ Level, Msg string }
	if err := json.Unmarshal(out.Bytes(), &line); err != nil || line.Level != "WARN" || line.Msg != "this" {
		t.Errorf("%v: %s", err, out.String())
	}
	out.Reset()
	NewLogger(&out, config.Log{Level: "info", Format: "auto"}, false).Info("text")
	if got := out.String(); !strings.HasPrefix(got, "time=") || !strings.HasSuffix(got, "level=INFO msg=text\n") {
		t.Errorf("outside the journal: %q", got)
	}
}
