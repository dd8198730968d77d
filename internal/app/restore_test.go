package app

import (
	"database/sql"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/restore"
	"github.com/atocore/atobackupd/snapshot"
)

// What the operator's flags and the configuration become.
func TestNewRestoreRequest(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	c := a.Config
	c.AtoCore.RegistryPath, c.AtoCore.ChromaPath = "/srv/registry.json", "/srv/chroma"
	c.AtoCore.RequiredTables, c.AtoCore.HealthURL = []string{"memories"}, "http://127.0.0.1:8100/health"
	a.Options.TrustBackupDir = true
	answers := restore.Options{To: "/srv/out", NoChroma: true, AllowInvalid: true, Force: true, NoPreSnapshot: true,
		AcceptOtherDeployment: true, ConfirmServiceStopped: true, ForceChroma: true}
	got, err := a.newRestoreRequest(RestoreRequest{Name: "latest", Options: answers})
	if err != nil {
		t.Fatal(err)
	}
	answers.TrustBackupDir = true
	if got.Options != answers {
		t.Errorf("%+v, want %+v", got.Options, answers)
	}
	live := restore.Live{DB: h.path("data/a.db"), Registry: "/srv/registry.json", Chroma: "/srv/chroma"}
	if got.Live != live || got.Host != "dalidou" || got.StateDir != h.path("state") || got.Store != a.store ||
		!slices.Equal(got.RequiredTables, []string{"memories"}) || got.HealthURL != c.AtoCore.HealthURL ||
		got.Service != nil || got.Source != "local" || !got.Share {
		t.Errorf("%+v", got)
	}
	if p := got.PreSnapshot; p.Host != "dalidou" || p.ToolVersion != "test" || p.MinFree != 1<<20 ||
		string(p.Share) != c.Backup.Share {
		t.Errorf("%+v", p)
	}
	c.Backup.Share = "copy"
	if got, err = a.newRestoreRequest(RestoreRequest{From: "disk"}); err != nil || got.Share || got.Source != "disk" {
		t.Errorf("%+v, %v", got, err)
	}
}

// --manage-service needs both commands; its checks are those of the configuration.
func TestService(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	r := &a.Config.Restore
	for _, test := range []struct {
		name        string
		stop, start []string
		fails       bool
	}{
		{"none", nil, nil, true},
		{"no stop", nil, []string{"start"}, true},
		{"no start", []string{"stop"}, nil, true},
		{"both", []string{"stop", "it"}, []string{"start", "it"}, false},
	} {
		r.StopCommand, r.StartCommand = test.stop, test.start
		got, err := a.newRestoreRequest(RestoreRequest{ManageService: true})
		if test.fails {
			if failure.KindOf(err) != failure.Config ||
				!strings.Contains(failure.HintOf(err), "--confirm-service-stopped") {
				t.Errorf("%s: %v", test.name, err)
			}
			continue
		}
		if err != nil || got.Service == nil || !slices.Equal(got.Service.Stop, test.stop) ||
			!slices.Equal(got.Service.Start, test.start) || got.Service.HealthTimeout != time.Minute {
			t.Errorf("%s: %+v, %v", test.name, got.Service, err)
		}
	}
	r.Checks = []config.Check{{URL: "http://127.0.0.1:8100/stats", Status: 200, JSON: "documents"},
		{URL: "http://127.0.0.1:8100/context", Method: "POST", Body: "{}"}, {SQL: "SELECT 1"}}
	s, err := a.service()
	if err != nil || len(s.Checks) != 3 || s.Checks[0].Status != 200 || s.Checks[0].JSON != "documents" ||
		s.Checks[1].Method != "POST" || s.Checks[1].Body != "{}" || s.Checks[2].SQL != "SELECT 1" {
		t.Errorf("%+v, %v", s, err)
	}
}

// rows counts what the live database holds.
func (h *house) rows() (n int) {
	h.t.Helper()
	db, err := sql.Open("sqlite", h.path("data/a.db"))
	if err != nil {
		h.t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow("SELECT count(*) FROM t").Scan(&n); err != nil {
		h.t.Fatal(err)
	}
	return n
}

// A restore of this machine's own or of a vault's, what is refused, and what is
// recorded of it.
func TestRestore(t *testing.T) {
	stopped := restore.Options{ConfirmServiceStopped: true}
	for _, test := range []struct {
		name    string
		request func(h *shipped) RestoreRequest
		harm    func(h *shipped)
		kind    failure.Kind
		text    string
		rows    int // afterwards; there are 5
		run     history.Outcome
	}{
		{"the newest", func(*shipped) RestoreRequest {
			return RestoreRequest{Name: "latest", Options: stopped}
		}, nil, 0, "", 4, history.OK},
		{"an older one", func(h *shipped) RestoreRequest {
			return RestoreRequest{Name: string(h.stamps[0]), Options: stopped}
		}, nil, 0, "", 2, history.OK},
		{"from the vault", func(h *shipped) RestoreRequest {
			return RestoreRequest{Name: string(h.stamps[1]), From: "disk", Identity: h.key, Options: stopped}
		}, func(h *shipped) { h.remove("backups/snapshots/" + string(h.stamps[1])) }, 0, "", 3, history.OK},
		{"only said", func(*shipped) RestoreRequest {
			return RestoreRequest{Name: "latest", Options: stopped, DryRun: true}
		}, nil, 0, "", 5, ""},
		{"nobody says that the service is stopped", func(*shipped) RestoreRequest {
			return RestoreRequest{Name: "latest"}
		}, nil, failure.Refused, "--confirm-service-stopped", 5, history.Failed},
		{"no such snapshot", func(*shipped) RestoreRequest {
			return RestoreRequest{Name: "20200101T000000Z", Options: stopped}
		}, nil, failure.Invalid, "20200101T000000Z", 5, ""},
		{"a rotten one", func(h *shipped) RestoreRequest {
			return RestoreRequest{Name: string(h.stamps[2]), Options: stopped}
		}, func(h *shipped) {
			rot(h.t, h.path("backups/snapshots/"+string(h.stamps[2])+"/"+snapshot.DBFile))
		}, failure.Invalid, "checksum_mismatch", 5, history.Failed},
		{"from a target without a key", func(h *shipped) RestoreRequest {
			return RestoreRequest{Name: "latest", From: "disk", Options: stopped}
		}, nil, failure.Usage, "--from needs --identity", 5, ""},
		{"from a target that is none", func(h *shipped) RestoreRequest {
			return RestoreRequest{Name: "latest", From: "other", Identity: h.key, Options: stopped}
		}, nil, failure.Usage, "no such target", 5, ""},
		{"with a key that is none", func(h *shipped) RestoreRequest {
			return RestoreRequest{Name: "latest", From: "disk", Identity: h.path("config.toml"), Options: stopped}
		}, nil, -1, "config.toml", 5, ""},
		{"a stamp that the vault does not have", func(h *shipped) RestoreRequest {
			return RestoreRequest{Name: "20200101T000000Z", From: "disk", Identity: h.key, Options: stopped}
		}, nil, failure.NotFound, "20200101T000000Z", 5, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newShipped(t, "")
			h.change(9)
			a := h.open()
			defer a.Close()
			if test.harm != nil {
				test.harm(h)
			}
			result, plan, err := a.Restore(t.Context(), test.request(h))
			if (err != nil) != (test.text != "") || err != nil && !strings.Contains(err.Error(), test.text) ||
				test.kind >= 0 && failure.KindOf(err) != test.kind {
				t.Errorf("%v (kind %d)", err, failure.KindOf(err))
			}
			if got := h.rows(); got != test.rows {
				t.Errorf("%d rows, want %d", got, test.rows)
			}
			if (plan != nil) != test.request(h).DryRun {
				t.Errorf("plan: %+v", plan)
			}
			if done := test.run == history.OK; result.DBRestored != done || result.RestoredIntegrityOK != done ||
				done && result.PreRestoreSnapshot == "" {
				t.Errorf("%+v", result)
			}
			run, found, err := a.history.LastRun(t.Context(), "restore")
			if err != nil || found != (test.run != "") || run.Outcome != test.run {
				t.Errorf("the run: %+v, %v, %v", run, found, err)
			}
			if left := fsxtest.Tree(t, h.path("backups/staging")); left != ".\n" {
				t.Errorf("left in staging: %s", left)
			}
			if s, err := a.Find(t.Context(), "latest", time.Now().Add(time.Hour)); err != nil ||
				s.Kind == snapshot.PreRestore {
				t.Errorf("latest is %s, %v", s.Kind, err)
			}
		})
	}
}

// Without a journal there is nothing to finish and nothing to put back.
func TestContinueRestoreOfNothing(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	for _, abort := range []bool{false, true} {
		result, err := a.ContinueRestore(t.Context(), abort, restore.Options{})
		if err != nil || result.DBRestored || !slices.Contains(result.Warnings,
			"no restore is unfinished: nothing was done") {
			t.Errorf("abort %v: %+v, %v", abort, result, err)
		}
	}
}

// A secret key that is locked is opened by whoever can be asked.
func TestIdentities(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	if _, err := crypt.WriteIdentity(h.path("key.txt")); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, file string
		fails      bool
	}{{"a key", "key.txt", false}, {"no file", "none", true}, {"no key", "config.toml", true}} {
		if _, err := a.Identities(h.path(test.file)); (err != nil) != test.fails {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	if got := signerList(""); got != nil {
		t.Errorf("%q", got)
	}
	if got := signerList("key"); !slices.Equal(got, []string{"key"}) {
		t.Errorf("%q", got)
	}
}
