package web

import (
	"bytes"
	"embed"
	"html/template"
	"net/http"
	"strings"
	"time"

	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/history"
)

//go:embed templates
var templateFiles embed.FS

// templates escape by where a value stands: in text, in an attribute, in an
// address. Nothing is ever marked as safe.
var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"span": span, "size": size, "count": health.Counted, "title": legTitle,
	"level": levelTitle, "words": strings.Fields, "sign": func(level string) string { return levelSigns[level] },
	"took":  func(d history.Drill) string { return span(d.Duration) },
	"until": func(a history.Alarm) string { return span(a.ResolvedAt.Sub(a.Since)) },
	"set":   func(t time.Time) bool { return !t.IsZero() },
}).ParseFS(templateFiles, "templates/*.html"))

// unseen replaces the characters that turn the direction of text around: with
// one of them a name could show the rest of a sentence, or of a command that is
// to be copied, backwards.
var unseen = func() *strings.Replacer {
	var pairs []string
	for _, r := range "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069" {
		pairs = append(pairs, string(r), "\uFFFD")
	}
	return strings.NewReplacer(pairs...)
}()

// page answers with a page. It is made whole before any of it is sent, so that
// an error does not come after half a page.
func (s *Server) page(w http.ResponseWriter, status int, name string, view any) error {
	var body bytes.Buffer
	if err := templates.ExecuteTemplate(&body, name, view); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = unseen.WriteString(w, body.String()) // the client may be gone
	return nil
}

// failPage says in a browser what is wrong.
func (s *Server) failPage(w http.ResponseWriter, status int, err error) {
	view := struct {
		Title, Level, Text string
	}{Title: http.StatusText(status), Text: sentence(err.Error())}
	if err := s.page(w, status, "failure", view); err != nil {
		s.report(err)
	}
}

// levelTitle names a level for people.
func levelTitle(level string) string {
	titles := map[string]string{health.LevelOK: "OK", health.LevelWarning: "Warning", health.LevelCritical: "Critical"}
	if title, ok := titles[level]; ok {
		return title
	}
	return "Unknown"
}
