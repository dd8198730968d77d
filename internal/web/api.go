package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/snapshot"
)

// catalog is the answer of GET /admin/backup, in AtoCore's words, and beyond
// them what `list` tells.
type catalog struct {
	BackupDir string   `json:"backup_dir"`
	Backups   []entry  `json:"backups"`
	Warnings  []string `json:"warnings"`
}

// entry is one snapshot. Metadata is what its backup-metadata.json says, as it
// is; null where there is none. Valid is null while it was never validated.
type entry struct {
	Stamp          snapshot.Stamp  `json:"stamp"`
	Path           string          `json:"path"`
	Exists         bool            `json:"exists"`
	HasMetadata    bool            `json:"has_metadata"`
	Metadata       json.RawMessage `json:"metadata"`
	Kind           snapshot.Kind   `json:"kind"`
	Full           bool            `json:"full"`
	Valid          *bool           `json:"valid"`
	Pinned         bool            `json:"pinned"`
	Bytes          int64           `json:"bytes"`
	BytesExclusive int64           `json:"bytes_exclusive"`
	CreatedAt      time.Time       `json:"created_at"`
	Offsite        []string        `json:"offsite"`
}

// listBackups is GET /admin/backup.
func (s *Server) listBackups(w http.ResponseWriter, r *http.Request) error {
	state, err := s.look(r.Context())
	if err != nil {
		return err
	}
	s.reply(w, http.StatusOK, newCatalog(state))
	return nil
}

func newCatalog(state *State) catalog {
	holders := state.holders()
	c := catalog{BackupDir: state.BackupDir, Backups: []entry{}, Warnings: append([]string{}, state.Warnings...)}
	for _, snap := range state.Snapshots {
		c.Backups = append(c.Backups, entry{
			Stamp: snap.Stamp, Path: snap.Path, Exists: true, HasMetadata: snap.RawMetadata != nil,
			Metadata: snap.RawMetadata,
			Kind:     snap.Kind, Full: snap.Full, Valid: snap.Valid, Pinned: snap.Pinned,
			Bytes: snap.Bytes, BytesExclusive: snap.BytesExclusive, CreatedAt: snap.CreatedAt.UTC(),
			Offsite: append([]string{}, holders[snap.Stamp]...),
		})
	}
	return c
}

// holders says which targets hold which stamp.
func (st *State) holders() map[snapshot.Stamp][]string {
	holders := make(map[snapshot.Stamp][]string)
	for _, t := range st.Targets {
		for _, stamp := range t.Stamps {
			holders[stamp] = append(holders[stamp], t.Name)
		}
	}
	return holders
}

// takeBackup is POST /admin/backup. The take goes on when the client goes away:
// whoever asked for a snapshot wants it, and a lost connection is no change of
// mind.
func (s *Server) takeBackup(w http.ResponseWriter, r *http.Request) error {
	if err := checkMediaType(r); err != nil {
		return err
	}
	includeChroma, err := readWish(r.Body)
	if err != nil {
		return err
	}
	if err := s.limitWrites(w); err != nil {
		return err
	}
	document, err := s.source.Backup(s.life, includeChroma)
	allowToAnswer(w)
	if failure.KindOf(err) == failure.Locked {
		w.Header().Set("Retry-After", "30")
	}
	if err != nil {
		return err
	}
	s.reply(w, http.StatusOK, document)
	return nil
}

// allowToAnswer lets the time for an answer begin now: WriteTimeout counts from
// the request, and a take may last for hours.
func allowToAnswer(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout)) // a test's recorder has none
}

// readWish reads the body of POST /admin/backup: a JSON object, or nothing.
func readWish(body io.Reader) (includeChroma bool, err error) {
	var wish struct {
		IncludeChroma bool `json:"include_chroma"`
	}
	data, err := io.ReadAll(body)
	if err != nil {
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			return false, err
		}
		return false, refuse(http.StatusBadRequest, "the body could not be read: %v", err)
	}
	if len(data) == 0 {
		return false, nil
	}
	if err := decodeStrictly(data, &wish); err != nil {
		return false, refuse(http.StatusBadRequest,
			`the body must be {"include_chroma": true}, {"include_chroma": false} or {}: %v`, err)
	}
	return wish.IncludeChroma, nil
}

// decodeStrictly refuses what it does not know: a misspelt wish for Chroma would
// quietly be none.
func decodeStrictly(data []byte, into any) error {
	if !json.Valid(data) {
		return errors.New("it is not JSON")
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(data, &object); err != nil {
		return errors.New("it is not a JSON object")
	}
	for key := range object {
		if key != "include_chroma" {
			return fmt.Errorf("it has the unknown key %q", key)
		}
	}
	return json.Unmarshal(data, into)
}

// validateBackup is GET /admin/backup/{stamp}/validate.
func (s *Server) validateBackup(w http.ResponseWriter, r *http.Request) error {
	if err := mayHaveRead(r); err != nil {
		return err
	}
	stamp, err := snapshot.ParseStamp(r.PathValue("stamp"))
	if err != nil {
		return refuse(http.StatusBadRequest, "%s", err.Error())
	}
	// Reading goes on in the background, to notice when the client goes away, and
	// ReadTimeout would pass for that.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // a test's recorder has none
	result, err := s.validate(r.Context(), stamp)
	allowToAnswer(w)
	if err != nil {
		return err
	}
	if !result.Exists {
		s.reply(w, http.StatusNotFound, struct {
			Error string `json:"error"`
			snapshot.Result
		}{"there is no snapshot " + string(stamp), result})
		return nil
	}
	s.reply(w, http.StatusOK, result)
	return nil
}

// validate waits for the validations before it, and stops when the client goes
// away or the server does.
func (s *Server) validate(ctx context.Context, stamp snapshot.Stamp) (snapshot.Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	select {
	case s.validations <- struct{}{}:
	case <-ctx.Done():
		return snapshot.Result{}, ctx.Err()
	}
	defer func() { <-s.validations }()
	return s.source.Validate(ctx, stamp)
}

// status is GET /api/status.
func (s *Server) status(w http.ResponseWriter, r *http.Request) error {
	state, err := s.look(r.Context())
	if err != nil {
		return err
	}
	s.reply(w, http.StatusOK, state.Status)
	return nil
}

// healthz is GET /healthz: this process answers. Whether backups are well is
// /api/status: a supervisor that restarts the daemon because a laptop sleeps
// would help nobody.
func healthz(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte("{\"status\": \"ok\"}\n"))
	return nil
}
