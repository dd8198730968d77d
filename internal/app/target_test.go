package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/offsite"
)

// Which target a name means; "" only where there is one.
func TestTarget(t *testing.T) {
	for _, test := range []struct {
		name       string
		configured []string
		want       string
		hint       string
	}{
		{"", nil, "", "[[offsite]]"},
		{"laptop", nil, "", "[[offsite]]"},
		{"", []string{"laptop"}, "laptop", ""},
		{"laptop", []string{"laptop"}, "laptop", ""},
		{"laptop", []string{"disk", "laptop"}, "laptop", ""},
		{"", []string{"disk", "laptop"}, "", "name one with --target: disk, laptop"},
		{"desktop", []string{"disk", "laptop"}, "", "configured are: disk, laptop"},
		{"Laptop", []string{"laptop"}, "", "configured are: laptop"},
	} {
		cfg := config.Default()
		cfg.Path = "/etc/atobackupd/config.toml"
		for _, name := range test.configured {
			cfg.Offsite = append(cfg.Offsite, config.Target{Name: name})
		}
		a := &App{Config: cfg}
		got, err := a.Target(test.name)
		if got.Name != test.want || (err != nil) != (test.want == "") {
			t.Errorf("%q of %v: %s, %v", test.name, test.configured, got.Name, err)
		}
		if err != nil && (failure.KindOf(err) != failure.Usage || !strings.Contains(failure.HintOf(err), test.hint)) {
			t.Errorf("%q of %v: %v (%s)", test.name, test.configured, err, failure.HintOf(err))
		}
		all, err := a.targetsFor(test.name)
		switch {
		case test.name == "" && len(test.configured) > 1: // all of them
			if err != nil || len(all) != len(test.configured) {
				t.Errorf("all: %v, %v", all, err)
			}
		case (err != nil) != (test.want == ""):
			t.Errorf("%q of %v: %v", test.name, test.configured, err)
		}
	}
}

// An error names the target that it is about, once, and keeps its kind.
func TestWithTarget(t *testing.T) {
	base := &failure.Error{Op: "sync", Kind: failure.Auth, Err: errors.New("why")}
	for _, test := range []struct {
		err  error
		want string
	}{
		{base, "target laptop: sync: why"},
		{withTarget("laptop", base), "target laptop: sync: why"},
		{fmt.Errorf("again: %w", withTarget("disk", base)), "again: target disk: sync: why"},
	} {
		if got := withTarget("laptop", test.err); got.Error() != test.want || failure.KindOf(got) != failure.Auth {
			t.Errorf("%v, want %s", got, test.want)
		}
	}
	if err := withTarget("laptop", nil); err != nil {
		t.Errorf("nothing is wrong: %v", err)
	}
}

// What the configuration says of a target reaches the package that dials.
func TestTargetConfigs(t *testing.T) {
	cfg := configOf(t, `[encryption]
recipients = ["age1vhlkl7y5qsm4jyhyxxkqjfkkkwxzcu4zpxvxrjnmcydhv7cxmexqzqr8xh"]
[[offsite]]
name = "laptop"
type = "sftp"
hosts = ["laptop.local", "laptop.tailnet"]
port = 2222
user = "atobackup"
identity_file = "/etc/atobackupd/id"
known_hosts = "/etc/atobackupd/known_hosts"
path = "/home/atobackup/vault"
bandwidth_limit = "2MiB"
append_only = true
connect_timeout = "10s"
[[offsite]]
name = "cloud"
type = "s3"
endpoint = "https://s3.example.net"
bucket = "vault"
prefix = "dalidou"
region = "eu-1"
lock_for = "30d"
credentials_file = "/etc/atobackupd/s3"
`)
	s := SFTPConfig(cfg.Offsite[0])
	if s.Name != "laptop" || len(s.Hosts) != 2 || s.Port != 2222 || s.User != "atobackup" ||
		s.IdentityFile != "/etc/atobackupd/id" || s.KnownHosts != "/etc/atobackupd/known_hosts" ||
		s.Path != "/home/atobackup/vault" || s.BandwidthLimit != 2<<20 || !s.AppendOnly ||
		s.DialTimeout != 10*time.Second || s.Transport != "builtin" {
		t.Errorf("%+v", s)
	}
	a := &App{Config: cfg}
	b := a.s3Config(cfg.Offsite[1])
	if b.Name != "cloud" || b.Endpoint != "https://s3.example.net" || b.Bucket != "vault" || b.Prefix != "dalidou" ||
		b.Region != "eu-1" || b.LockFor != 30*24*time.Hour || b.CredentialsFile != "/etc/atobackupd/s3" ||
		!strings.HasPrefix(b.StateFile, cfg.StateDir) || b.ListFor != listFor {
		t.Errorf("%+v", b)
	}
}

// What `target test` says of a directory, that it leaves nothing behind, and that a
// sync goes well exactly where it does.
func TestTestTarget(t *testing.T) {
	const probed = "a probe was stored and read back"
	for _, test := range []struct {
		name, more string
		make       func(t *testing.T, h *house, a *App)
		lines      []string // each is in the line of its place
		kind       failure.Kind
		text       string
	}{
		{"no vault yet", "", func(*testing.T, *house, *App) {},
			[]string{"iB are free", "no vault yet: the first sync makes it", probed}, 0, ""},
		{"no directory yet", "", func(t *testing.T, h *house, _ *App) { h.remove("vault") },
			[]string{"is not there yet: the first sync makes it"}, 0, ""},
		{"a vault", "", syncOnce, []string{"iB are free", "of host dalidou", probed}, 0, ""},
		{"a vault that was there", "", func(t *testing.T, h *house, a *App) {
			syncOnce(t, h, a)
			h.remove("vault/vault.json")
		}, nil, failure.VaultMismatch, "target disk: "},
		{"its disk is away", "removable = true\n", func(t *testing.T, h *house, a *App) {
			syncOnce(t, h, a)
			h.move("vault", "away")
		}, nil, failure.Unreachable, "target disk: "},
		{"its directory is gone", "", func(t *testing.T, h *house, a *App) {
			syncOnce(t, h, a)
			h.move("vault", "away")
		}, nil, failure.VaultMismatch, "is its disk mounted?"},
		{"its state cannot be read", "", func(t *testing.T, h *house, a *App) {
			syncOnce(t, h, a)
			h.write("state/targets/disk/state.json", "{")
		}, nil, failure.Other, "state.json"},
		{"another host's vault", "", func(t *testing.T, h *house, _ *App) { h.stranger() }, nil,
			failure.VaultMismatch, "another signing key"},
		{"another host's vault in the place of its own", "", func(t *testing.T, h *house, a *App) {
			syncOnce(t, h, a)
			h.stranger()
		}, nil, failure.VaultMismatch, "another signing key"},
		{"somebody else's directory", "", func(_ *testing.T, h *house, _ *App) { h.write("vault/thesis", "x") }, nil,
			failure.VaultMismatch, "thesis: the directory is not empty and holds no vault"},
		{"a vault of a newer program", "", func(t *testing.T, h *house, a *App) {
			syncOnce(t, h, a)
			h.write("vault/vault.json", `{"format": "atobackup-vault", "version": 2}`)
		}, nil, failure.VaultMismatch, "a newer atobackupd"},
		{"only its vault.json is damaged", "", func(t *testing.T, h *house, a *App) {
			syncOnce(t, h, a)
			h.write("vault/vault.json", "{")
		}, []string{"iB are free", "1 snapshot in", probed}, 0, ""},
		{"the key is lost", "", func(t *testing.T, h *house, a *App) {
			syncOnce(t, h, a)
			h.remove("state/signing_key")
		}, nil, failure.Config, "signing_key: it is lost"},
		{"nobody can read what is sealed", "", func(_ *testing.T, _ *house, a *App) {
			a.Config.Encryption.Recipients = []string{"age1nobody"}
		}, nil, failure.Config, "recipient 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, test.more)
			a := h.open()
			defer a.Close()
			test.make(t, h, a)
			count, names := countFiles(t, h.path("vault")), h.names("vault")
			lines, err := a.TestTarget(t.Context(), a.Config.Offsite[0])
			if (err != nil) != (test.text != "") || err != nil && (!strings.Contains(err.Error(), test.text) ||
				failure.KindOf(err) != test.kind) {
				t.Errorf("%v (kind %d)", err, failure.KindOf(err))
			}
			if err == nil && len(lines) != len(test.lines) {
				t.Fatalf("%q", lines)
			}
			for i, want := range test.lines {
				if !strings.Contains(lines[i], want) {
					t.Errorf("%q does not say %q", lines[i], want)
				}
			}
			if got := countFiles(t, h.path("vault")); got != count {
				t.Errorf("%d files, there were %d", got, count)
			}
			if got := h.names("vault"); err != nil && got != names {
				t.Errorf("%s, there was %s", got, names)
			}
			if docs, syncErr := a.Sync(t.Context(), "", false); (syncErr != nil) != (err != nil) {
				t.Errorf("%v, and a sync: %+v", err, docs)
			}
		})
	}
}

// names lists what lies in a directory.
func (h *house) names(dir string) string {
	found, err := filepath.Glob(h.path(dir) + "/*")
	if err != nil {
		h.t.Fatal(err)
	}
	return strings.Join(found, " ")
}

// stranger puts the vault of another host in the place of the target.
func (h *house) stranger() {
	h.t.Helper()
	other := newHouse(h.t, "")
	a := other.open()
	defer a.Close()
	syncOnce(h.t, other, a)
	h.remove("vault")
	if err := os.Rename(other.path("vault"), h.path("vault")); err != nil {
		h.t.Fatal(err)
	}
}

func syncOnce(t *testing.T, h *house, a *App) {
	t.Helper()
	h.backup(a)
	if _, err := a.Sync(t.Context(), "", false); err != nil {
		t.Fatal(err)
	}
}

// countFiles counts the files below a directory, none where it is not there.
func countFiles(t *testing.T, dir string) (n int) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.IsDir() {
			n += countFiles(t, dir+"/"+entry.Name())
			continue
		}
		n++
	}
	return n
}

// vault init takes what is there, or begins one; the same again changes nothing.
func TestInitVault(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	target := a.Config.Offsite[0]
	info, err := a.InitVault(t.Context(), target)
	if err != nil || len(info.ID) < 16 || info.Host != "dalidou" || info.Signer == "" {
		t.Fatalf("%+v, %v", info, err)
	}
	if info.Retention.Daily != 7 || info.Retention.Monthly != 6 || info.Retention.WeekStart != time.Sunday {
		t.Errorf("the configuration's retention is not there: %+v", info.Retention)
	}
	again, err := a.InitVault(t.Context(), target)
	if err != nil || again.ID != info.ID {
		t.Errorf("%+v, %v", again, err)
	}
	// After the disk was exchanged, sync refuses, and init begins anew.
	h.remove("vault")
	if err := os.Mkdir(h.path("vault"), 0o700); err != nil {
		t.Fatal(err)
	}
	h.backup(a)
	if docs, err := a.Sync(t.Context(), "", false); err == nil || docs[0].State != "vault_mismatch" {
		t.Errorf("%+v, %v", docs, err)
	}
	other, err := a.InitVault(t.Context(), target)
	if err != nil || other.ID == info.ID {
		t.Errorf("%+v, %v", other, err)
	}
	if docs, err := a.Sync(t.Context(), "", false); err != nil || len(docs[0].Pushed) != 1 {
		t.Errorf("%+v, %v", docs, err)
	}
	state, err := offsite.LoadState(a.Config.StateDir, "disk")
	if err != nil || state.VaultID != other.ID {
		t.Errorf("%+v, %v", state, err)
	}
	a.Options.LockTimeout = 0
	lock, err := a.lockTarget(t.Context(), "disk", "a prune")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	if _, err := a.InitVault(t.Context(), target); failure.KindOf(err) != failure.Locked {
		t.Errorf("while another works there: %v", err)
	}
}

// A vault that begins on the second machine has one signer, and one that is a key.
func TestInitVaultDir(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		signers []string
		made    bool
		fails   bool
	}{
		{"the host's first sync makes it", nil, true, false},
		{"several signers", []string{"a", "b"}, false, true},
		{"a signer that is no key", []string{"no key"}, false, true},
	} {
		path := t.TempDir() + "/vault"
		info, err := InitVaultDir(t.Context(), path, test.signers)
		if (err != nil) != test.fails || info.ID != "" {
			t.Errorf("%s: %+v, %v", test.name, info, err)
		}
		for _, dir := range []string{"packs", "snapshots", "policy", "host", "reports", "incoming", "trash"} {
			if _, err := os.Stat(path + "/" + dir); (err == nil) != test.made && test.made {
				t.Errorf("%s: %s: %v", test.name, dir, err)
			}
		}
	}
}

// bucketKey is a bucket whose key was tried.
type bucketKey struct {
	offsite.Remote
	kept, err error
}

func (b bucketKey) TryStore(context.Context) (kept, err error) { return b.kept, b.err }

// What `target test` says of a key that cannot delete.
func TestProbeKey(t *testing.T) {
	const stored = "a probe was stored and read back"
	denied := &failure.Error{Op: "remove", Kind: failure.Auth, Err: errors.New("denied"), Hint: "see the page"}
	for _, test := range []struct {
		name  string
		key   bucketKey
		prune bool
		lines int
		text  string // of the last line or the error
	}{
		{"all", bucketKey{}, true, 1, stored},
		{"no removal", bucketKey{kept: denied}, false, 2, "this key cannot delete"},
		{"no removal, to prune", bucketKey{kept: denied}, true, 0, "set prune = false"},
		{"nothing", bucketKey{err: denied}, false, 0, "see the page"},
	} {
		lines, err := probe(t.Context(), test.key, config.Target{Type: "s3", Prune: test.prune})
		said := strings.Join(lines, "\n")
		if err != nil {
			said = err.Error()
		}
		if len(lines) != test.lines || (err != nil) != (test.lines == 0) || !strings.Contains(said, test.text) ||
			err != nil && failure.KindOf(err) != failure.Auth {
			t.Errorf("%s: %q: %v", test.name, lines, err)
		}
	}
}

// Two targets that are one place are one copy: whoever comes second is refused, however
// they came to it, and only the first is told to hold anything.
func TestTwoTargetsInOnePlace(t *testing.T) {
	link := func(t *testing.T, h *house) {
		if err := os.Symlink(h.path("vault"), h.path("link")); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name, path string
		make       func(t *testing.T, h *house)
		before     func(t *testing.T, h *house, a *App)
	}{
		{"at once, by a link", "link", link, func(*testing.T, *house, *App) {}},
		{"later, by a link", "link", link, func(t *testing.T, h *house, a *App) {
			if _, err := a.Sync(t.Context(), "disk", false); err != nil {
				t.Fatal(err)
			}
		}},
		{"later, by a mount", "mount", func(t *testing.T, h *house) {
			if err := os.Mkdir(h.path("mount"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Mount(h.path("vault"), h.path("mount"), "", syscall.MS_BIND, ""); err != nil {
				t.Fatalf("a bind mount, which needs root: %v", err)
			}
			t.Cleanup(func() { syscall.Unmount(h.path("mount"), syscall.MNT_DETACH) })
		}, func(t *testing.T, h *house, a *App) {
			if _, err := a.Sync(t.Context(), "disk", false); err != nil {
				t.Fatal(err)
			}
		}},
		{"both are pinned, by an older version", "link", link, func(t *testing.T, h *house, a *App) {
			if _, err := a.Sync(t.Context(), "disk", false); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(h.path("state/targets/disk/state.json"))
			if err := errors.Join(err, os.MkdirAll(h.path("state/targets/second"), 0o700)); err != nil {
				t.Fatal(err)
			}
			h.write("state/targets/second/state.json", string(data))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, "\n[[offsite]]\nname = \"second\"\ntype = \"dir\"\npath = \"/second\"\n")
			test.make(t, h)
			a := h.openWith(func(c *config.Config) { c.Offsite[1].Path = h.path(test.path) })
			defer a.Close()
			taken := h.backup(a)
			test.before(t, h, a)
			docs, err := a.Sync(t.Context(), "", false)
			if err == nil || len(docs) != 2 {
				t.Fatalf("%+v, %v", docs, err)
			}
			first, second := docs[0], docs[1]
			if first.State != "ok" && test.name == "at once, by a link" {
				first, second = second, first // whichever was faster
			}
			if first.State != "ok" || second.State != "vault_mismatch" || !strings.Contains(second.Error,
				"the target "+first.Target+" is pinned to this same vault") {
				t.Errorf("%+v, %+v", first, second)
			}
			refused, err := a.Target(second.Target)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := a.TestTarget(t.Context(), refused); failure.KindOf(err) != failure.VaultMismatch {
				t.Errorf("target test: %v", err)
			}
			if _, err := a.InitVault(t.Context(), refused); failure.KindOf(err) != failure.VaultMismatch {
				t.Errorf("vault init: %v", err)
			}
			holders, err := a.OffsiteHolders()
			if err != nil || !slices.Equal(holders[taken.Stamp], []string{first.Target}) {
				t.Errorf("%v, %v", holders, err)
			}
		})
	}
}
