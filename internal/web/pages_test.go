package web

import (
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/history"
)

// TestPagesTellTheLevel holds every page's title, icon and badge to the level that
// the report has: a tab that is pinned shows nothing else.
func TestPagesTellTheLevel(t *testing.T) {
	for _, c := range []struct {
		state *State
		level string
		title string
		badge string
	}{
		{bigScene(t), health.LevelOK, "<title>Backups of dalidou</title>", ">OK</text>"},
		{warningScene(t), health.LevelWarning, "<title>Warning: Backups of dalidou</title>", ">Warning</text>"},
		{criticalScene(t), health.LevelCritical, "<title>Critical: Backups of dalidou</title>", ">Critical</text>"},
	} {
		source := &fakeSource{state: c.state}
		page := serve(source, Options{}, fromHere("GET", "/", "")).Body.String()
		if !strings.Contains(page, c.title) || !strings.Contains(page, `href="/icon/`+c.level+`"`) ||
			!strings.Contains(page, `<svg class="`+c.level+`"`) {
			t.Errorf("%s: title, icon or shield is wrong:\n%.900s", c.level, page)
		}
		badge := serve(source, Options{}, fromHere("GET", "/badge.svg", ""))
		if badge.Header().Get("Content-Type") != "image/svg+xml" || !strings.Contains(badge.Body.String(), c.badge) ||
			!strings.Contains(badge.Body.String(), levelColours[c.level]) {
			t.Errorf("%s: the badge is %s", c.level, badge.Body)
		}
		wellFormed(t, badge.Body.String())
		icon := serve(source, Options{}, fromHere("GET", "/icon/"+c.level, ""))
		if icon.Code != http.StatusOK || !strings.Contains(icon.Body.String(), levelSigns[c.level]) {
			t.Errorf("%s: the icon is %d %s", c.level, icon.Code, icon.Body)
		}
		wellFormed(t, icon.Body.String())
	}
	if w := serve(&fakeSource{state: bigScene(t)}, Options{},
		fromHere("GET", "/icon/green", "")); w.Code != http.StatusNotFound {
		t.Errorf("an unknown icon is answered with %d", w.Code)
	}
}

func wellFormed(t *testing.T, document string) {
	t.Helper()
	for d := xml.NewDecoder(strings.NewReader(document)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Errorf("not well-formed: %v: %s", err, document)
			return
		}
	}
}

func TestRunsPage(t *testing.T) {
	state := smallState()
	state.Recent = []history.Run{
		{Job: "sync", StartedAt: state.Now.Add(-10e9), Outcome: history.Running},
		{Job: "backup", Kind: "daily", Stamp: "20260407T060000Z", StartedAt: state.Now.Add(-100e9),
			FinishedAt: state.Now.Add(-97e9),
			Outcome:    history.OK, Bytes: 3 << 20},
		{Job: "prune", StartedAt: state.Now.Add(-200e9), FinishedAt: state.Now.Add(-199e9), Outcome: history.Failed,
			Error: "prune: <b>held</b>"},
	}
	page := serve(&fakeSource{state: state}, Options{}, fromHere("GET", "/runs", "")).Body.String()
	for _, part := range []string{
		">sync</td>", ">running</td>", `>backup (daily)</td>`, `<span class="level ok">ok</span>`, ">3 s</td>",
		">3.0 MiB</td>",
		`<a href="/snapshots/20260407T060000Z">`, `<span class="level critical">failed</span>`,
		"prune: &lt;b&gt;held&lt;/b&gt;",
	} {
		if !strings.Contains(page, part) {
			t.Errorf("the page of runs does not say %q", part)
		}
	}
	if strings.Index(page, ">sync<") > strings.Index(page, ">backup (daily)<") {
		t.Error("the newest run does not come first")
	}
	empty := serve(&fakeSource{state: smallState()}, Options{}, fromHere("GET", "/runs", "")).Body.String()
	if !strings.Contains(empty, "Nothing was run yet.") {
		t.Error("a page without runs does not say so")
	}
}

func TestDrillsPage(t *testing.T) {
	page := serve(&fakeSource{state: bigScene(t)}, Options{}, fromHere("GET", "/drills", "")).Body.String()
	for _, part := range []string{
		"The last one that passed began", "from laptop", "the vault held one snapshot more than expected",
		`<a href="/snapshots/20260101T050000Z">`, `<span>drill</span>`,
	} {
		if !strings.Contains(page, part) {
			t.Errorf("the page of drills does not say %q", part)
		}
	}
	state := smallState()
	state.Drills = nil
	if page := serve(&fakeSource{state: state}, Options{},
		fromHere("GET", "/drills", "")).Body.String(); !strings.Contains(page,
		"None has passed yet.") {
		t.Error("a page without drills does not say so")
	}
}
