package setup

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/offsite"
)

// atocore makes AtoCore's usual directories below a temporary one.
func atocore(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, d := range []string{"srv/data/db", "srv/data/chroma", "srv/config"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"srv/data/db/atocore.db", "srv/data/chroma/chroma.sqlite3"} {
		db, err := sql.Open("sqlite", filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		_, err = db.Exec("CREATE TABLE t (x)")
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
	}
	put(t, filepath.Join(dir, "srv/config/project-registry.json"), "{}")
	return dir
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func initRequest(dir string) InitRequest {
	return InitRequest{ConfigPath: filepath.Join(dir, "etc/config.toml"), StateDir: filepath.Join(dir, "state"),
		DB: filepath.Join(dir, "srv/data/db/atocore.db"), Out: filepath.Join(dir,
			"out"), Host: "dalidou", TargetHosts: []string{"laptop.local", "laptop.tailnet"}}
}

func TestInitFromScratch(t *testing.T) {
	dir := atocore(t)
	report, err := Init(t.Context(), initRequest(dir))
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(report.Config.Path)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.AtoCore.RegistryPath != filepath.Join(dir, "srv/config/project-registry.json") ||
		cfg.AtoCore.ChromaPath != filepath.Join(dir, "srv/data/chroma") ||
		cfg.Backup.Dir != filepath.Join(dir, "srv/backups") || cfg.StateDir != filepath.Join(dir, "state") ||
		cfg.Schedule.Weekly == "" {
		t.Errorf("what lies beside the database was not found: %+v", cfg)
	}
	target := cfg.Offsite[0]
	if !slices.Equal(target.Hosts, []string{"laptop.local", "laptop.tailnet"}) || target.User != "atobackup" ||
		target.IdentityFile != report.SSHKey.Path {
		t.Errorf("the target: %+v", target)
	}
	found, err := CheckConfig(t.Context(), cfg, time.Now())
	if err != nil {
		t.Errorf("config check of what init wrote: %v", err)
	}
	if len(found.Schedule.Jobs) != 6 || len(found.Schedule.Jobs[0].Next) != 3 {
		t.Errorf("the schedule: %+v", found.Schedule)
	}
	if text := strings.Join(found.Warnings, "\n"); !strings.Contains(text, "atobackupd target trust laptop") {
		t.Errorf("no word on the host key: %s", text)
	}

	// What is sealed to the recipient in the configuration opens with the identity.
	recipients, err := crypt.ParseRecipients(cfg.Encryption.Recipients)
	if err != nil {
		t.Fatal(err)
	}
	var sealed bytes.Buffer
	w, err := recipients.Seal(&sealed)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	identities, err := crypt.LoadIdentities(report.Identity.Path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := identities.Open(&sealed); err != nil {
		t.Error(err)
	}
	secret, err := os.ReadFile(report.Identity.Path)
	if err != nil {
		t.Fatal(err)
	}
	key := secret[bytes.Index(secret, []byte("AGE-SECRET-KEY")):]
	sheet, err := os.ReadFile(report.RecoverySheet.Path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{report.Recipients[0], report.SigningKey.Public, "recover.py",
		"laptop.local or laptop.tailnet", cfg.AtoCore.ChromaPath} {
		if !strings.Contains(string(sheet), want) {
			t.Errorf("the recovery sheet lacks %q", want)
		}
	}
	if bytes.Contains(sheet, bytes.TrimSpace(key)) {
		t.Error("the recovery sheet holds the secret key")
	}
	for path, mode := range map[string]fs.FileMode{report.Identity.Path: 0o600, report.SSHKey.Path: 0o600,
		report.SigningKey.Path: 0o600, report.Config.Path: 0o640} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}

// A sheet that names other keys is no sheet of this machine: what is printed on the bad
// day must name the key that signs, and the old one is kept for the old copies.
func TestInitPrintsAnewASheetOfOtherKeys(t *testing.T) {
	dir := atocore(t)
	first, err := Init(t.Context(), initRequest(dir))
	if err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(first.RecoverySheet.Path)
	if err != nil {
		t.Fatal(err)
	}
	strange := strings.ReplaceAll(string(old), first.SigningKey.Public, "ssh-ed25519 AAAAother")
	if err := os.WriteFile(first.RecoverySheet.Path, []byte(strange), 0o644); err != nil {
		t.Fatal(err)
	}
	second, err := Init(t.Context(), initRequest(dir))
	if err != nil {
		t.Fatal(err)
	}
	sheet, err := os.ReadFile(second.RecoverySheet.Path)
	if err != nil || !second.RecoverySheet.Made || !strings.Contains(string(sheet), first.SigningKey.Public) {
		t.Errorf("made %v: %v\n%s", second.RecoverySheet.Made, err, sheet)
	}
	aside, _ := filepath.Glob(second.RecoverySheet.Path + ".before-*")
	if len(aside) != 1 || !strings.Contains(strings.Join(second.Warnings, "\n"), aside[0]) {
		t.Fatalf("the old sheet lies in %q, and the warnings are %q", aside, second.Warnings)
	}
	if kept, err := os.ReadFile(aside[0]); err != nil || string(kept) != strange {
		t.Errorf("the old sheet was changed: %v\n%s", err, kept)
	}
}

// A second run does nothing, and --force replaces no key.
func TestInitAgain(t *testing.T) {
	dir := atocore(t)
	first, err := Init(t.Context(), initRequest(dir))
	if err != nil {
		t.Fatal(err)
	}
	before := contents(t, dir)
	second, err := Init(t.Context(), initRequest(dir))
	if err != nil {
		t.Fatal(err)
	}
	if second.Config.Made || second.SSHKey.Made || second.SigningKey.Made || second.Identity == nil ||
		second.Identity.Made || second.RecoverySheet.Made ||
		second.SSHKey.Public != first.SSHKey.Public {
		t.Errorf("the second run: %+v", second)
	}
	for path, text := range contents(t, dir) {
		if before[path] != text {
			t.Errorf("%s has changed", path)
		}
	}
	again := initRequest(dir)
	again.Force, again.TargetHosts = true, nil
	third, err := Init(t.Context(), again)
	if err != nil {
		t.Fatal(err)
	}
	if !third.Config.Made || third.SSHKey.Made || third.SigningKey.Made || third.Identity.Made ||
		!slices.Equal(third.Recipients, first.Recipients) {
		t.Errorf("with --force: %+v", third)
	}
	after := contents(t, dir)
	for _, key := range []string{first.SSHKey.Path, first.SigningKey.Path, first.Identity.Path} {
		if after[key] != before[key] {
			t.Errorf("%s was replaced", key)
		}
	}
	if cfg, err := config.Load(third.Config.Path); err != nil || len(cfg.Offsite) != 0 {
		t.Errorf("the replaced configuration: %v", err)
	}
}

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		files[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestInitRefuses(t *testing.T) {
	for name, change := range map[string]func(*InitRequest, string){
		"no AtoCore database there": func(r *InitRequest, dir string) { r.DB += ".missing" },
		"must not lie in":           func(r *InitRequest, dir string) { r.Out = r.StateDir },
		"a target needs a host":     func(r *InitRequest, dir string) { r.TargetHosts, r.TargetUser = nil, "me" },
		"--recipient":               func(r *InitRequest, dir string) { r.Recipients = []string{"age1nonsense"} },
		"--host laptop:2222":        func(r *InitRequest, dir string) { r.TargetHosts = []string{"laptop:2222"} },
		"--user root":               func(r *InitRequest, dir string) { r.TargetUser = "root" },
		"--backup-dir": func(r *InitRequest, dir string) {
			r.DB = filepath.Join(dir, "srv/a.db")
			put(t, r.DB, "")
		},
	} {
		dir := atocore(t)
		r := initRequest(dir)
		change(&r, dir)
		before := contents(t, dir)
		_, err := Init(t.Context(), r)
		if failure.KindOf(err) != failure.Usage || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		for path := range contents(t, dir) {
			if _, ok := before[path]; !ok {
				t.Errorf("%s: it left %s", name, path)
			}
		}
	}
}

// AtoCore's own backup directory is most often its own: init says what to run before
// config check and backup refuse it.
func TestInitNamesSharedBackups(t *testing.T) {
	dir := atocore(t)
	backups := filepath.Join(dir, "srv/backups")
	if err := errors.Join(os.Mkdir(backups, 0o755), os.Chmod(backups, 0o777)); err != nil {
		t.Fatal(err)
	}
	report, err := Init(t.Context(), initRequest(dir))
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(report.Next, func(step string) bool { return strings.Contains(step, "chmod go-w "+backups) })
	if check := slices.Index(report.Next, "atobackupd config check"); i < 0 || i > check {
		t.Fatalf("%q", report.Next)
	}
	_, command, _ := strings.Cut(report.Next[i], "the backups: ")
	if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
	again, err := Init(t.Context(), initRequest(dir))
	if err != nil || len(again.Next) != len(report.Next)-1 {
		t.Errorf("after %s: %v: %q", command, err, again.Next)
	}
}

// What a lost signing key signed is the only way to know a vault again: a second init
// makes no other one, and the check of the configuration finds it missing.
func TestInitKeepsToALostSigningKey(t *testing.T) {
	dir := atocore(t)
	first, err := Init(t.Context(), initRequest(dir))
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(first.Config.Path)
	if err != nil {
		t.Fatal(err)
	}
	state, err := offsite.LoadState(cfg.StateDir, "laptop")
	if err != nil {
		t.Fatal(err)
	}
	state.VaultID = strings.Repeat("a", 32)
	if err := errors.Join(state.Save(), os.Remove(first.SigningKey.Path)); err != nil {
		t.Fatal(err)
	}
	_, again := Init(t.Context(), initRequest(dir))
	report, checked := CheckConfig(t.Context(), cfg, time.Now())
	for name, err := range map[string]error{"init": again, "config check": checked} {
		if failure.KindOf(err) != failure.Config || !strings.Contains(fmt.Sprint(err), "signing_key: it is lost") {
			t.Errorf("%s: %v %v", name, err, report.Errors)
		}
	}
	if _, err := os.Stat(first.SigningKey.Path); err == nil {
		t.Error("another signing key was made")
	}
}

func TestInitWithRecipientMakesNoIdentity(t *testing.T) {
	_, recipient, err := crypt.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	r := initRequest(atocore(t))
	r.Recipients = []string{recipient}
	report, err := Init(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if report.Identity != nil || !slices.Equal(report.Recipients, []string{recipient}) {
		t.Errorf("%+v", report)
	}
}

// Each thing that is wrong is found, by its key.
func TestCheckConfigFinds(t *testing.T) {
	for name, test := range map[string]struct {
		spoil   func(dir string, cfg *config.Config)
		err     string
		warning string
	}{
		"no database": {func(dir string, cfg *config.Config) { os.Remove(cfg.AtoCore.DBPath) },
			"atocore.db_path", ""},
		"not a database": {func(dir string, cfg *config.Config) {
			put(t, cfg.AtoCore.DBPath, strings.Repeat("x", 5000))
		}, "atocore.db_path", ""},
		"no registry": {func(dir string, cfg *config.Config) { os.Remove(cfg.AtoCore.RegistryPath) }, "",
			"atocore.registry_path"},
		"no chroma": {func(dir string, cfg *config.Config) { os.RemoveAll(cfg.AtoCore.ChromaPath) },
			"atocore.chroma_path", ""},
		"backups are a file": {func(dir string, cfg *config.Config) {
			os.Remove(cfg.Backup.Dir)
			put(t, cfg.Backup.Dir, "")
		}, "backup.dir: ", ""},
		"no space": {func(dir string, cfg *config.Config) { cfg.Backup.MinFree = 1 << 60 }, "",
			"the next take will be refused"},
		"bad cron": {func(dir string, cfg *config.Config) { cfg.Schedule.Drill = "61 * * * *" },
			"schedule.drill", ""},
		"key is the public one": {func(dir string, cfg *config.Config) {
			cfg.Offsite[0].IdentityFile += ".pub"
		}, "offsite.laptop.identity_file: " + "", ""},
		"no recipients": {func(dir string, cfg *config.Config) { cfg.Encryption.Recipients = []string{"age1x"} },
			"encryption", ""},
		"no such service": {func(dir string, cfg *config.Config) { cfg.Notify.URLs = []string{"nosuch://x"} }, "notify",
			""},
		"no urls file": {func(dir string, cfg *config.Config) {
			cfg.Notify.URLsFile = filepath.Join(dir, "nothing")
		}, "notify", ""},
		"no token": {func(dir string, cfg *config.Config) { cfg.HTTP.TokenFile = filepath.Join(dir, "nothing") },
			"http.token_file", ""},
		"short token": {func(dir string, cfg *config.Config) {
			cfg.HTTP.TokenFile = filepath.Join(dir, "token")
			put(t, cfg.HTTP.TokenFile, "abc")
		}, "http.token_file", ""},
		"no such command": {func(dir string, cfg *config.Config) {
			cfg.Restore.StopCommand = []string{"no-such-program"}
		}, "", "restore.stop_command"},
	} {
		dir := atocore(t)
		report, err := Init(t.Context(), initRequest(dir))
		if err != nil {
			t.Fatal(err)
		}
		cfg, err := config.Load(report.Config.Path)
		if err != nil {
			t.Fatal(err)
		}
		test.spoil(dir, cfg)
		found, err := CheckConfig(t.Context(), cfg, time.Now())
		switch {
		case test.err == "" && err != nil, test.err != "" &&
			(failure.KindOf(err) != failure.Config || !strings.Contains(err.Error(), test.err)):
			t.Errorf("%s: %v, want an error with %q", name, err, test.err)
		case test.warning != "" && !strings.Contains(strings.Join(found.Warnings, "\n"), test.warning):
			t.Errorf("%s: no warning with %q: %q", name, test.warning, found.Warnings)
		case len(found.Errors) == 0 && err != nil:
			t.Errorf("%s: the report has no errors", name)
		}
	}
}

// OpenSSH's own files are the measure.
func TestKnownHosts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "known_hosts")
	const key = " ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHAW06mORTUqyAvoxh5IkjMEvo+U6Qyu6/YLYBp5+z8h\n"
	put(t, file, "# laptop.local"+key+"laptop.local,192.0.2.7"+key+"[other]:2222"+key+"*.tailnet"+key)
	for hashed := range 2 {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, test := range []struct {
			host string
			port int
			want bool
		}{
			{"laptop.local", 22, true}, {"192.0.2.7", 22, true}, {"laptop.local", 2222, false}, {"other", 2222,
				true}, {"other", 22, false},
			{"a.tailnet", 22, true}, {"laptop", 22, false}, {"#", 22, false},
		} {
			if got := knows(data, test.host, test.port); got != test.want {
				t.Errorf("hashed %d: %s:%d is known: %v", hashed, test.host, test.port, got)
			}
		}
		if out, err := exec.Command("ssh-keygen", "-H", "-f", file).CombinedOutput(); err != nil {
			t.Fatalf("%v (Debian: openssh-client): %s", err, out)
		}
	}
}

func TestUsableKey(t *testing.T) {
	dir := t.TempDir()
	for _, test := range []struct{ kind, format, passphrase, want string }{
		{"ed25519", "RFC4716", "", ""}, {"ed25519", "RFC4716", "secret", "has a passphrase"},
		{"rsa", "PEM", "", ""}, {"rsa", "PEM", "secret", "has a passphrase"}, {"ecdsa", "PKCS8", "secret",
			"has a passphrase"}, {"ecdsa", "PKCS8", "", ""},
	} {
		path := filepath.Join(dir, test.kind+test.format+test.passphrase)
		if out, err := exec.Command("ssh-keygen", "-q", "-t", test.kind, "-m", test.format, "-N", test.passphrase, "-f",
			path).CombinedOutput(); err != nil {
			t.Fatalf("%v (Debian: openssh-client): %s", err, out)
		}
		err := usableKey(path)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v", test, err)
		}
		if err := usableKey(path + ".pub"); err == nil || !strings.Contains(err.Error(), "not a private ssh key") {
			t.Errorf("a public key: %v", err)
		}
	}
}
