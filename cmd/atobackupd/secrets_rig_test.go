//go:build rig

package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/internal/provetest"
)

// secretScene is an installation in which every secret is a word that is found
// again wherever it comes out, and every other machine answers with an error, which
// is when programs say too much.
type secretScene struct {
	*trustScene
	t       *testing.T
	address string            // of the daemon's pages
	secrets map[string]string // by the place where each belongs
	said    map[string]string // by what said it
}

// homes are the files in which a secret may lie, and nobody but the owner may read.
var homes = []string{"config.toml", "urls", "token", "aws", "key.txt", "id_ed25519", "state/signing_key",
	"state/notify-addresses.json", "etc/", "home/"}

func newSecretScene(t *testing.T) *secretScene {
	t.Helper()
	s := &secretScene{trustScene: newTrustScene(t, buildProgram(t)), t: t, secrets: map[string]string{},
		said: map[string]string{}}
	service := &service{address: unusedAddress(t)}
	service.start(t)
	t.Cleanup(func() { service.stop(t) })
	refuses := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusInternalServerError
		switch r.URL.Path {
		case "/start":
			status = service.start(t)
		case "/stop":
			status = service.stop(t)
		}
		if strings.HasPrefix(r.URL.Path, "/vault") { // the bucket: anything else is tried again for long
			status = http.StatusForbidden
		}
		http.Error(w, "no", status)
	}))
	t.Cleanup(refuses.Close)
	at := strings.TrimPrefix(refuses.URL, "http://")
	s.address = unusedAddress(t)
	atocore := fmt.Sprintf("[atocore]\nhealth_url = \"http://u:%s@%s/health?key=%s\"\napi_url = \"http://u:%s@%s\"\n",
		s.secret("health password"), service.address, s.secret("health key"), s.secret("api password"), at)
	pages := fmt.Sprintf("listen = %q\ntoken_file = \"%s/token\"\nrequire_token = true", s.address, s.dir)
	config := strings.NewReplacer("[atocore]\n", atocore, "listen = \"\"", pages).Replace(
		output(t, s.dir, "cat", "config.toml"))
	config += fmt.Sprintf(`
[[offsite]]
name = "bucket"
type = "s3"
endpoint = "http://%[2]s"
bucket = "vault"
region = "us-east-1"
credentials_file = "%[1]s/aws"
[[offsite]]
name = "laptop"
type = "sftp"
hosts = ["127.0.0.1"]
port = 9
user = "nobody"
identity_file = "%[1]s/id_ed25519"
known_hosts = "%[1]s/known_hosts"
path = "/vault"
connect_timeout = "1s"
[notify]
urls = ["generic+http://%[2]s/hook?token=%[3]s", "ntfy://u:%[4]s@%[2]s/topic?scheme=http",
  "smtp://u:%[5]s@%[11]s/?from=a@b.c&to=d@e.f"]
urls_file = "%[1]s/urls"
[notify.heartbeats]
snapshot = "http://%[2]s/ping/%[6]s"
prune = "http://u:%[7]s@%[2]s/ping"
"offsite:disk" = "http://127.0.0.1:9/%[8]s"
[restore]
stop_command = ["curl", "-sf", "http://%[2]s/stop"]
start_command = ["curl", "-sf", "http://%[2]s/start"]
health_timeout = "1s"
[[restore.checks]]
url = "http://u:%[9]s@%[2]s/stats?key=%[10]s"
status = 200
[log]
level = "debug"
`, s.dir, at, s.secret("hook token"), s.secret("ntfy password"), s.secret("smtp password"), s.secret("ping address"),
		s.secret("ping password"), s.secret("dead ping address"), s.secret("check password"), s.secret("check key"),
		refusingMail(t))
	s.write("config.toml", config)
	s.write("urls", fmt.Sprintf("generic+http://%s/other?token=%s\ntelegram://%s@telegram?chats=@a\n", at,
		s.secret("token of urls_file"), "12345:"+s.secret("bot token")))
	s.write("token", s.secret("dashboard token")+"\n")
	s.write("aws", fmt.Sprintf("[default]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = %s\n",
		s.secret("bucket key")))
	s.root(t, `mkdir -m 700 home; ssh-keygen -q -t ed25519 -N '' -f id_ed25519; touch known_hosts`)
	s.keep("ssh key", "id_ed25519")
	s.keep("age key", "key.txt")
	return s
}

// service is the application: it answers while it runs, and that is all it does.
type service struct {
	address string
	server  *http.Server
}

func (s *service) start(t *testing.T) (status int) {
	l, err := net.Listen("tcp", s.address)
	if err != nil {
		t.Error(err)
		return http.StatusInternalServerError
	}
	s.server = &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	go s.server.Serve(l)
	return http.StatusOK
}

func (s *service) stop(t *testing.T) (status int) {
	if err := s.server.Close(); err != nil {
		t.Error(err)
	}
	return http.StatusOK
}

// refusingMail returns the address of a mail server that takes nothing.
func refusingMail(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, "554 no\r\n")
			conn.Close()
		}
	}()
	return l.Addr().String()
}

// unusedAddress returns an address on which nobody listens yet.
func unusedAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().String()
}

func (s *secretScene) write(name, text string) {
	must(s.t, os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600))
}

// secret makes one up that nothing else contains.
func (s *secretScene) secret(of string) string {
	word := fmt.Sprintf("cAnArY%dx%d", len(s.secrets), time.Now().UnixNano())
	s.secrets[of] = word
	return word
}

// keep notes the secret of a key file: the last line of age's, and the last whole one
// of OpenSSH's, which no other key has.
func (s *secretScene) keep(of, name string) {
	lines := strings.Split(strings.TrimSpace(output(s.t, s.dir, "cat", name)), "\n")
	last := len(lines) - 1
	if strings.HasPrefix(lines[last], "-----") {
		last -= 2
	}
	s.secrets[of] = lines[last]
}

// found names the secrets that a text shows, also quoted for an address or in base64.
func (s *secretScene) found(text string) (names []string) {
	for of, word := range s.secrets {
		coded := base64.StdEncoding.EncodeToString([]byte(word))[:20]
		for _, form := range []string{word, url.QueryEscape(word), coded} {
			if strings.Contains(text, form) {
				names = append(names, of)
				break
			}
		}
	}
	slices.Sort(names)
	return names
}

// typed is what is typed of each command, in this order, with log.level = debug.
var typed = [][2]string{
	{"config", "a config"}, {"config show", "a config show; a config show --json"},
	{"config check", "a config check; a config check --json; a config check --notify"},
	{"backup", "a backup --chroma; a backup --json; a backup --note hello"},
	{"list", "a list; a list --json"}, {"ls", "a ls latest"}, {"diff", "a diff latest; a diff latest live"},
	{"dump", "a dump latest registry -o -"}, {"pin", "a pin latest"}, {"unpin", "a unpin latest"},
	{"accept", "a accept latest"}, {"validate", "a validate --all; a validate latest --json"},
	{"target", "a target"}, {"target test", "a target test disk; a target test bucket; a target test laptop"},
	{"target trust", "a target trust laptop </dev/null; a target trust bucket </dev/null"},
	{"sync", "a sync; a sync --json"}, {"scrub", "a scrub; a scrub --repair --from disk --identity key.txt --confirm"},
	{"drill", "a drill; a drill --from disk --identity key.txt; a drill --live"},
	{"export", "a export latest --to export.age"},
	{"restore", "a restore latest --dry-run; a restore latest --confirm-service-stopped; " +
		"a restore latest --manage-service; a restore latest --from disk --identity key.txt --to out"},
	{"prune", "a prune --dry-run; a prune"}, {"notify", "a notify"}, {"notify test", "a notify test; a notify test --json"},
	{"history", "a history; a history --json"}, {"schedule", "a schedule; a schedule --json"},
	{"status", "a status; a status --json"},
	{"vault", "a vault"}, {"vault list", "a vault list --target disk; a vault list --target bucket"},
	{"vault verify", "a vault verify --target disk; a vault verify --target laptop"},
	{"vault ls", "a vault ls latest --target disk --identity key.txt"},
	{"vault dump", "a vault dump latest config/project-registry.json --target disk --identity key.txt -o -"},
	{"vault restore", "a vault restore latest --target disk --identity key.txt --to out2"},
	{"vault drill", "a vault drill --target disk --identity key.txt"}, {"vault stats", "a vault stats --target disk"},
	{"vault prune", "a vault prune --target disk"}, {"vault policy", "a vault policy --target disk"},
	{"vault rebase", "a vault rebase --target disk"}, {"vault trust-times", "a vault trust-times --dir vault"},
	{"vault signer", "a vault signer"}, {"vault signer list", "a vault signer list --dir vault"},
	{"vault signer add", `a vault signer add "$(cat state/signing_key.pub)" --dir vault`},
	{"vault forget", "a vault forget latest --target disk"}, {"vault init", "a vault init --target disk"},
	{"completion", "a completion bash"}, {"completion bash", "a completion bash"}, {"completion fish", "a completion fish"},
	{"completion zsh", "a completion zsh"}, {"help", "a help sync"},
	{"version", "a version; a version --json"},
	{"init", "a --config etc/config.toml init --db store/data/db/atocore.db --state-dir state2 --host laptop.local"},
	{"bootstrap", "a sync; cp -a vault vault2; mkdir -m 700 new; cd new; " +
		"$A --config $D/new/config.toml bootstrap --dir $D/vault2 --identity $D/key.txt --dry-run"},
	{"run", "timeout -s TERM 6 $A --config config.toml run"},
}

// TestRigSecrets types every command, with debug messages, and reads every page: no
// secret comes out, and none lies anywhere but in its home, which only the owner can
// read. The umask allows everything, so that every mode is the program's own.
func TestRigSecrets(t *testing.T) {
	s := newSecretScene(t)
	everyCommand(func(cmd *cobra.Command) {
		name := strings.TrimPrefix(strings.TrimPrefix(cmd.CommandPath(), "atobackupd"), " ")
		if name != "" && !slices.ContainsFunc(typed, func(c [2]string) bool { return c[0] == name }) {
			t.Errorf("nobody types %s here", name)
		}
	})
	for _, c := range typed {
		if c[0] == "run" {
			continue
		}
		s.said["atobackupd "+c[0]] = s.root(t, "umask 0; export HOME=$D/home; "+c[1])
	}
	s.readPages()
	if _, err := os.Stat(filepath.Join(s.dir, "state/signing_key")); err != nil {
		t.Fatal(err)
	}
	s.keep("signing key", "state/signing_key")
	for by, text := range s.said {
		if names := s.found(text); len(names) > 0 {
			t.Errorf("%s shows the %s:\n%s", by, strings.Join(names, ", "), text)
		}
	}
	files := s.searchFiles()
	t.Logf("%d secrets, %d outputs, %d files", len(s.secrets), len(s.said), files)
	provetest.Points(t, len(s.secrets)*(len(s.said)+files))
}

// readPages runs the daemon and asks it for all that it serves.
func (s *secretScene) readPages() {
	cmd := s.command(0, "umask 0; exec $A --config config.toml run")
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	must(s.t, cmd.Start())
	for _, path := range []string{"/healthz", "/", "/runs", "/drills", "/badge.svg", "/admin/backup", "/api/status",
		"/metrics", "/nowhere", "/snapshots/" + strings.Fields(s.root(s.t, "ls backups/snapshots"))[0]} {
		for _, token := range []string{"", s.secrets["dashboard token"]} {
			s.said["GET "+path] += s.get("http://"+s.address+path, token)
		}
	}
	if !strings.Contains(s.said["GET /metrics"], "atobackupd_") {
		s.t.Errorf("the daemon does not answer: %s\n%s", s.said["GET /metrics"], &log)
	}
	must(s.t, cmd.Process.Signal(os.Interrupt))
	_ = cmd.Wait()
	s.said["atobackupd run"] = log.String()
}

func (s *secretScene) get(address, token string) string {
	for range 100 {
		req, err := http.NewRequest(http.MethodGet, address, nil)
		must(s.t, err)
		req.Header.Set("Authorization", "Bearer "+token)
		answer, err := http.DefaultClient.Do(req)
		if err != nil { // it is not there yet
			time.Sleep(100 * time.Millisecond)
			continue
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		must(s.t, err)
		return fmt.Sprintln(answer.Status, answer.Header) + string(body)
	}
	s.t.Fatalf("%s does not answer", address)
	return ""
}

// searchFiles looks through all that was made, and returns how many files that was.
// Each secret lies at home: were it not found there, it would be found nowhere.
func (s *secretScene) searchFiles() (files int) {
	atHome := map[string]bool{}
	must(s.t, filepath.WalkDir(s.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(strings.TrimPrefix(path, s.dir), "/")
		info, err := entry.Info()
		if err != nil {
			return err
		}
		made := !strings.HasPrefix(name, "store") && !strings.HasPrefix(name, "victim") && name != "" && name != "home"
		if made && info.Mode()&fs.ModeSymlink == 0 && info.Mode().Perm()&0o022 != 0 {
			s.t.Errorf("%s: others can write it: %v", name, info.Mode())
		}
		if !info.Mode().IsRegular() {
			return nil
		}
		files++
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		home := slices.ContainsFunc(homes, func(h string) bool {
			return name == h || strings.HasSuffix(h, "/") && strings.HasPrefix(name, h)
		})
		names := s.found(string(data))
		for _, secret := range names {
			atHome[secret] = atHome[secret] || home
		}
		switch {
		case len(names) == 0:
		case !home:
			s.t.Errorf("%s holds the %s", name, strings.Join(names, ", "))
		case info.Mode().Perm()&0o077 != 0:
			s.t.Errorf("%s holds the %s, and others can read it: %v", name, strings.Join(names, ", "), info.Mode())
		}
		return nil
	}))
	for secret := range s.secrets {
		if !atHome[secret] {
			s.t.Errorf("the %s was not found at home", secret)
		}
	}
	return files
}
