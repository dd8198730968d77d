package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/atocore/atobackupd/internal/failure"
)

// refusal is an error with the HTTP status that tells it.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

func refuse(status int, format string, args ...any) error {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

// statusOf finds the HTTP status of an error.
func statusOf(err error) int {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.status
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return http.StatusRequestEntityTooLarge
	}
	switch failure.KindOf(err) {
	case failure.Locked, failure.Refused:
		return http.StatusConflict
	case failure.NotFound:
		return http.StatusNotFound
	case failure.Usage:
		return http.StatusBadRequest
	case failure.NoSpace:
		return http.StatusInsufficientStorage
	case failure.Interrupted:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// fail answers with an error: for a browser that asked for a page as a page,
// else as JSON.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	status := statusOf(err)
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		return // nobody is listening any more
	}
	if status >= http.StatusInternalServerError && status != http.StatusServiceUnavailable {
		s.report(fmt.Errorf("http: %s %s: %w", r.Method, r.URL.Path, err))
	}
	if wantsPage(r) {
		s.failPage(w, status, err)
		return
	}
	s.reply(w, status, map[string]string{"error": err.Error()})
}

// wantsPage reports whether a person with a browser asked.
func wantsPage(r *http.Request) bool {
	api := strings.HasPrefix(r.URL.Path, "/admin/") || strings.HasPrefix(r.URL.Path, "/api/")
	return !api && r.Method != http.MethodPost && strings.Contains(r.Header.Get("Accept"), "text/html")
}

// reply answers with a JSON document, indented for the people who will read it
// with curl.
func (s *Server) reply(w http.ResponseWriter, status int, document any) {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false) // what is shown stays as it was written; the type forbids taking it for a page
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(document); err != nil {
		s.report(fmt.Errorf("http: %w", err))
		status = http.StatusInternalServerError
		body = *bytes.NewBufferString(`{"error": "the answer could not be written as JSON"}` + "\n")
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes()) // the client may be gone
}
