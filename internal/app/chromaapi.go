package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/snapshot"
)

// Bounds on asking AtoCore for a snapshot. It answers when it has made it.
const (
	apiDeadline = time.Hour
	apiConnect  = 10 * time.Second
	apiAnswer   = 1 << 20 // bytes of it that are read
)

// errAPIDown is of an API that cannot be reached, or does not answer. One that
// answers and refuses is not down: that is for a person to look at.
var errAPIDown = errors.New("AtoCore's API is down")

// takeByAPI takes a snapshot with Chroma by the method "api", and by the fallback
// where the API is down. A snapshot without Chroma needs no API.
func (a *App) takeByAPI(ctx context.Context, o snapshot.TakeOptions) (snapshot.Snapshot, error) {
	var made snapshot.Stamp
	snap, err := a.store.TakeBy(ctx, a.sources(), o, func(ctx context.Context) (stamp snapshot.Stamp, err error) {
		a.progressOf("backup")("AtoCore makes the snapshot", 0, 0)
		made, err = askAtoCore(ctx, a.Config.AtoCore.APIURL)
		return made, err
	})
	if err == nil && snap.Stamp != made {
		err = a.recordOrigin(made, snap.Stamp)
	}
	if !errors.Is(err, errAPIDown) {
		return snap, err
	}
	a.Options.Log.Warn("a snapshot is taken without AtoCore's API", "method", o.Chroma.Method, "error", err)
	a.notice(err.Error() + ": falling back to " + string(o.Chroma.Method))
	return a.store.Take(ctx, a.sources(), o)
}

// askAtoCore has AtoCore make a full snapshot under its ingestion lock and returns
// its stamp. The path in the answer is that of AtoCore's container: only its
// last element means anything here.
func askAtoCore(ctx context.Context, url string) (stamp snapshot.Stamp, err error) {
	url = strings.TrimSuffix(url, "/") + "/admin/backup"
	failed := func(err error, hint string) error {
		return &failure.Error{Op: "backup", Subject: failure.PublicURL(url), Err: failure.WithoutURL(err), Hint: hint}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, apiDeadline, errAPIDown)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(`{"include_chroma": true}`))
	if err != nil {
		return "", failed(err, "correct atocore.api_url")
	}
	request.Header.Set("Content-Type", "application/json")
	client := http.Client{
		Transport: &http.Transport{DialContext: (&net.Dialer{Timeout: apiConnect}).DialContext,
			DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, errAPIDown) {
			return "", cause // it is this run that was ended
		}
		return "", failed(fmt.Errorf("%w: %w", errAPIDown, failure.WithoutURL(err)), "is AtoCore running?")
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, apiAnswer))
	if err != nil && context.Cause(ctx) != nil {
		return "", context.Cause(ctx)
	}
	switch code := response.StatusCode; {
	case code == http.StatusBadGateway || code == http.StatusServiceUnavailable || code == http.StatusGatewayTimeout:
		return "", failed(fmt.Errorf("%w: %s", errAPIDown, response.Status), "is AtoCore running?")
	case code != http.StatusOK && code != http.StatusCreated:
		return "", failed(fmt.Errorf("AtoCore refused: %s: %.200s", response.Status, body), "see AtoCore's own log")
	}
	var answer struct {
		Root string `json:"backup_root"`
	}
	if err := errors.Join(err, json.Unmarshal(body, &answer)); err != nil {
		return "", failed(fmt.Errorf("AtoCore's answer is not JSON: %w", err), "is that AtoCore's API?")
	}
	if stamp, err = snapshot.ParseStamp(path.Base(answer.Root)); err != nil {
		return "", failed(fmt.Errorf("AtoCore's answer names no snapshot: backup_root is %q", answer.Root),
			"is that AtoCore's API?")
	}
	return stamp, nil
}
