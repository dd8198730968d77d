package app

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/history"
)

// unpack reads a host document.
func unpack(t *testing.T, data []byte) (names []string, files map[string]string) {
	t.Helper()
	files = make(map[string]string)
	r := tar.NewReader(bytes.NewReader(data))
	for {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names, files
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Mode != 0o600 || header.Typeflag != tar.TypeReg {
			t.Errorf("%s: mode %o, type %c", header.Name, header.Mode, header.Typeflag)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		names, files[header.Name] = append(names, header.Name), string(text)
	}
}

// The host document holds what a new machine needs, in a fixed order, and the same
// again has the same bytes: else every sync would send it.
func TestHostContent(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	if _, err := a.makeSigner(); err != nil {
		t.Fatal(err)
	}
	h.write("urls", "ntfy://ntfy.sh/x\n")
	h.write("token", "secret")
	h.write("known_hosts", "laptop ssh-ed25519 AAAA")
	a.Config.Notify.URLsFile, a.Config.HTTP.TokenFile = h.path("urls"), h.path("token")
	a.Config.Offsite[0].KnownHosts, a.Config.Offsite[0].IdentityFile = h.path("known_hosts"), h.path("id_missing")
	names, files := unpack(t, hostContent(t, a))
	want := []string{HostAboutName, HostConfigName, HostFilesDir + h.path("known_hosts")[1:],
		HostFilesDir + h.path("token")[1:], HostFilesDir + h.path("urls")[1:], HostSigningName}
	if !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
	var about HostAbout
	if err := json.Unmarshal([]byte(files[HostAboutName]), &about); err != nil || about != (HostAbout{Host: "dalidou",
		Target: "disk", ConfigPath: h.path("config.toml"), StateDir: h.path("state")}) {
		t.Errorf("%+v, %v", about, err)
	}
	for name, path := range map[string]string{HostConfigName: "config.toml", HostSigningName: "state/signing_key"} {
		text, err := os.ReadFile(h.path(path))
		if err != nil || files[name] != string(text) {
			t.Errorf("%s: %q, %v", name, files[name], err)
		}
	}
	if !bytes.Equal(hostContent(t, a), hostContent(t, a)) {
		t.Error("the same has other bytes")
	}
}

func hostContent(t *testing.T, a *App) []byte {
	t.Helper()
	data, err := a.hostContent(t.Context(), "disk")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// What does not belong in it is left out, and the rest is there.
func TestHostContentIsBounded(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	big := strings.Repeat("x", maxHostFile+1)
	for _, test := range []struct {
		name string
		make func(path string) error
		in   bool
	}{
		{"a file", func(path string) error { return os.WriteFile(path, []byte("urls"), 0o600) }, true},
		{"one that just fits", func(path string) error { return os.WriteFile(path, []byte(big[1:]), 0o600) }, true},
		{"one that is too large", func(path string) error { return os.WriteFile(path, []byte(big), 0o600) }, false},
		{"a directory", func(path string) error { return os.Mkdir(path, 0o700) }, false},
		{"nothing", func(string) error { return nil }, false},
		{"a link to nothing", func(path string) error { return os.Symlink("nothing", path) }, false},
		{"a device", func(path string) error { return os.Symlink("/dev/zero", path) }, false},
	} {
		path := h.path(strings.ReplaceAll(test.name, " ", "-"))
		if err := test.make(path); err != nil {
			t.Fatal(err)
		}
		a.Config.Notify.URLsFile = path
		names, _ := unpack(t, hostContent(t, a))
		if got := slices.Contains(names, HostFilesDir+path[1:]); got != test.in {
			t.Errorf("%s: %v", test.name, got)
		}
		if !slices.Contains(names, HostConfigName) {
			t.Errorf("%s: the rest is missing: %q", test.name, names)
		}
	}
}

// The record of drills goes with it, and the recovery sheet.
func TestHostContentHasDrillsAndSheet(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	put(t, SheetPath(a.Config.StateDir), "the sheet")
	if _, err := a.history.AddDrill(t.Context(), history.Drill{Stamp: "20260407T060000Z", Source: "local",
		StartedAt: noon, Pass: true, Surprises: []string{"slow"}}); err != nil {
		t.Fatal(err)
	}
	_, files := unpack(t, hostContent(t, a))
	var drills []history.Drill
	if err := json.Unmarshal([]byte(files[HostDrillsName]), &drills); err != nil || len(drills) != 1 ||
		drills[0].Stamp != "20260407T060000Z" || !drills[0].Pass {
		t.Errorf("%+v, %v", drills, err)
	}
	if files[HostSheetName] != "the sheet" {
		t.Errorf("%q", files[HostSheetName])
	}
}

// Which files of the configuration go with it: each once, and absolute paths only.
func TestHostFiles(t *testing.T) {
	c := config.Default()
	if got := hostFiles(c); len(got) != 0 {
		t.Errorf("nothing is configured: %q", got)
	}
	c.Offsite = []config.Target{{IdentityFile: "/etc/id", KnownHosts: "/etc/known"},
		{IdentityFile: "/etc/id2", KnownHosts: "/etc/known"}, {}}
	c.Encryption.RecipientsFile, c.Notify.URLsFile, c.HTTP.TokenFile = "/etc/recipients", "urls", "/etc/token"
	want := []string{"/etc/known", "/etc/id", "/etc/id2", "/etc/recipients", "/etc/token"}
	if got := hostFiles(c); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// The document is sent when it has changed, and not else.
func TestHostDocumentIsSentOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	h.backup(a)
	for _, test := range []struct {
		name   string
		change func()
		docs   int
	}{
		{"first", func() {}, 1},
		{"nothing changed", func() {}, 1},
		{"a drill was held", func() {
			if _, err := a.Drill(t.Context(), "latest", noon, ""); err != nil {
				t.Fatal(err)
			}
		}, 2},
		{"nothing changed again", func() {}, 2},
		{"the sheet was written", func() { put(t, SheetPath(a.Config.StateDir), "the sheet") }, 3},
	} {
		test.change()
		if _, err := a.Sync(t.Context(), "", false); err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(h.path("vault/host"))
		if err != nil {
			t.Fatal(err)
		}
		docs := 0
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), ".age") {
				docs++
			}
		}
		if docs != test.docs {
			t.Errorf("%s: %d documents, want %d", test.name, docs, test.docs)
		}
	}
}
