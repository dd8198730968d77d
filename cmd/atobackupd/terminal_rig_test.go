//go:build rig

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// terminal is a real one, of 80 columns and 24 lines, drawn by tmux: what a person
// sees is asked of it, and keys are pressed on it.
type terminal struct {
	t      *testing.T
	socket string
	log    string // every byte that programs wrote to it
}

func newTerminal(t *testing.T, environment ...string) *terminal {
	t.Helper()
	dir := t.TempDir()
	term := &terminal{t, filepath.Join(dir, "tmux"), filepath.Join(dir, "log")}
	cmd := exec.Command("tmux", "-S", term.socket, "-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24",
		"env", "-u", "COLUMNS", "sh")
	cmd.Env = append(append(os.Environ(), "PS1=$ ", "HISTFILE="), environment...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tmux: %v\n%s", err, out)
	}
	t.Cleanup(func() { exec.Command("tmux", "-S", term.socket, "kill-server").Run() })
	term.tmux("set-option", "-g", "history-limit", "10000")
	term.tmux("pipe-pane", "cat >"+term.log)
	term.await(`^\$`)
	return term
}

func (term *terminal) tmux(args ...string) string {
	term.t.Helper()
	out, err := exec.Command("tmux", append([]string{"-S", term.socket}, args...)...).CombinedOutput()
	if err != nil {
		term.t.Fatalf("tmux %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// types presses the keys of a line and then Enter.
func (term *terminal) types(line string) {
	term.t.Helper()
	term.tmux("send-keys", "-l", line)
	term.tmux("send-keys", "Enter")
}

// screen is what was and is to be seen, without the empty lines at its end.
func (term *terminal) screen() string {
	term.t.Helper()
	return strings.TrimRight(term.tmux("capture-pane", "-p", "-S", "-"), "\n ")
}

// await waits until what is seen matches an expression, and returns it.
func (term *terminal) await(expression string) string {
	term.t.Helper()
	re := regexp.MustCompile(`(?m)` + expression)
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		seen := term.screen()
		if re.MatchString(seen) {
			return seen
		}
		if time.Now().After(deadline) {
			term.t.Fatalf("the terminal never shows %s:\n%s", expression, seen)
		}
	}
}

// ends runs a line and waits for its exit status.
func (term *terminal) ends(line string, status int) string {
	term.t.Helper()
	term.tmux("clear-history")
	term.types("clear; " + line + "; echo status=$?")
	return term.await(fmt.Sprintf(`^status=%d$`, status))
}

// TestRigTerminal has the conversation of init on a real terminal, breaks one off, and
// watches the progress of a backup.
func TestRigTerminal(t *testing.T) {
	dir := t.TempDir()
	program := buildProgram(t)
	store := filepath.Join(dir, "atocore")
	if err := os.MkdirAll(filepath.Join(store, "data/db"), 0o755); err != nil {
		t.Fatal(err)
	}
	compose := filepath.Join(store, "app/deploy/docker-compose.yml")
	if err := os.MkdirAll(filepath.Dir(compose), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(compose, []byte("services: {atocore: {image: atocore}}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	// Large enough that copying and checking it takes longer than patience.
	db := filepath.Join(store, "data/db/atocore.db")
	if out, err := exec.Command("sqlite3", db, `PRAGMA journal_mode=wal; CREATE TABLE memories (x);
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 300)
		INSERT INTO memories SELECT zeroblob(2000000) FROM n`).CombinedOutput(); err != nil {
		t.Fatalf("sqlite3: %v\n%s", err, out)
	}
	config := filepath.Join(dir, "etc/config.toml")
	term := newTerminal(t, "ATOBACKUPD_CONFIG="+config, "PATH="+filepath.Dir(program)+":"+os.Getenv("PATH"))
	begin := "atobackupd init --state-dir " + dir + "/state --out " + dir + "/home"

	t.Run("broken off", func(t *testing.T) {
		term.t = t
		term.types("clear; " + begin + "; echo status=$?")
		term.await(`^AtoCore's database \[`)
		term.types(db)
		term.await(`^Where the snapshots go \[`)
		term.tmux("send-keys", "C-c")
		term.await(`^status=130$`)
		for _, name := range []string{"etc", "state", "home"} {
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
				t.Errorf("a conversation that was broken off made %s", name)
			}
		}
	})
	t.Run("no passphrase", func(t *testing.T) {
		term.t = t
		term.tmux("clear-history")
		term.types("clear; age-keygen 2>/dev/null | age -p -o " + dir + "/locked.age")
		term.await(`^Enter passphrase`)
		term.types("secret")
		term.await(`^Confirm passphrase`)
		term.types("secret")
		term.await(`^\$$`)
		term.types("clear; atobackupd bootstrap --dir " + dir + " --identity " + dir + "/locked.age; echo status=$?")
		term.await(`^passphrase of the secret key:`)
		term.tmux("send-keys", "C-c")
		term.await(`^status=[1-9]`)
		term.ends("stty | grep -e -echo && false", 1) // what is typed is shown again
	})
	t.Run("init", func(t *testing.T) {
		term.t = t
		term.tmux("clear-history")
		term.types("clear; " + begin + "; echo status=$?")
		for _, step := range []struct{ question, answer string }{
			{`AtoCore's database \[`, "/nowhere"},
			{`there is no /nowhere\n.*database \[`, db},
			{`Where the snapshots go \[\S+/backups\]`, ""},
			{`answers while AtoCore runs`, "-"},
			{`compose file .*\n?.*docker-compose.yml\]`, ""},
			{`encrypted copies`, "laptop.local, laptop.tailnet"},
			{`only add copies`, "yep"},
			{`yes or no, please\n(.*\n)?.*only add`, "yes"},
			{`second key for a drawer`, ""},
		} {
			term.await(step.question)
			term.types(step.answer)
		}
		seen := term.await(`^status=0$`)
		t.Logf("the conversation:\n%s", seen)
		for _, want := range []string{`(?m)^made +configuration +` + config, `AGE-SECRET-KEY-1[A-Z0-9]{58}`, `[█▀▄ ]{30}`,
			`useradd --system`, `(?m)^ +\d+\. atobackupd status$`} {
			if !regexp.MustCompile(want).MatchString(seen) {
				t.Errorf("the terminal does not show %s", want)
			}
		}
		text, err := os.ReadFile(config)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{`"laptop.local", "laptop.tailnet"`, "append_only = true", compose} {
			if !strings.Contains(string(text), want) {
				t.Errorf("the configuration has no %s:\n%s", want, text)
			}
		}
	})
	t.Run("progress", func(t *testing.T) {
		term.t = t
		before, err := os.ReadFile(term.log)
		if err != nil {
			t.Fatal(err)
		}
		seen := term.ends("atobackupd backup", 0)
		t.Logf("after it:\n%s", seen)
		all, err := os.ReadFile(term.log)
		if err != nil {
			t.Fatal(err)
		}
		bar := regexp.MustCompile(`(?m)[a-z]+ +\d+% .*[MG]iB.*/s`)
		shown := bar.FindAllString(strings.ReplaceAll(string(all[len(before):]), "\r", "\n"), -1)
		if len(shown) == 0 {
			t.Errorf("no progress was drawn: %q", all[len(before):])
		}
		t.Logf("%d times drawn:\n%s", len(shown), strings.Join(shown, "\n"))
		if bar.MatchString(seen) || !strings.Contains(seen, "valid") {
			t.Error("the bar is still there, or the result is not")
		}
	})
}
