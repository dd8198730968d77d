package main

import (
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/offsite/sftp/sshdtest"
	_ "github.com/atocore/atobackupd/snapshot/sqlite" // registers the driver
)

const scriptDir = "testdata/script"

// TestScripts plays every script of testdata/script: what an operator types,
// and what comes back, with the real binary. A script begins with a
// configuration (baseConfig) and nothing else; store, vault and sshd add more.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 scriptDir,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Values[testingKey{}] = env.T()
			env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
			env.Setenv("ATOBACKUPD_CONFIG", filepath.Join(env.WorkDir, "config.toml"))
			config := strings.ReplaceAll(baseConfig, "$WORK", env.WorkDir)
			return os.WriteFile(filepath.Join(env.WorkDir, "config.toml"), []byte(config), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exitcode": exitCodeCmd,
			"chroma":   chromaCmd,
			"store":    storeCmd,
			"vault":    vaultCmd,
			"sshd":     sshdCmd,
		},
	})
}

// TestEveryCommandHasAScript: what a command answers, and how it fails, is
// written down in the script of its name, also of those that come later.
func TestEveryCommandHasAScript(t *testing.T) {
	everyCommand(func(cmd *cobra.Command) {
		words := strings.Fields(cmd.CommandPath())[1:]
		if len(words) == 0 {
			return
		}
		name := strings.Join(words, "_") + ".txtar"
		script, err := os.ReadFile(filepath.Join(scriptDir, name))
		if err != nil {
			t.Errorf("%s has no script: %v", cmd.CommandPath(), err)
			return
		}
		lines := strings.Split(string(script), "\n")
		runs := func(prefix string) bool {
			return slices.ContainsFunc(lines, func(line string) bool {
				return strings.HasPrefix(line, prefix) && strings.Contains(line, cmd.CommandPath())
			})
		}
		if !runs("exec ") {
			t.Errorf("%s shows no success of %s", name, cmd.CommandPath())
		}
		if !runs("exitcode ") {
			t.Errorf("%s shows no failure of %s", name, cmd.CommandPath())
		}
	})
}

const baseConfig = `state_dir = "$WORK/state"
[atocore]
db_path = "$WORK/live/db/atocore.db"
registry_path = "$WORK/live/config/project-registry.json"
[backup]
dir = "$WORK/backups"
min_free = "1MiB"
`

// testingKey is where a script's environment keeps its testing.TB.
type testingKey struct{}

// appendConfig adds tables to the script's configuration. It is read again: a
// script may have changed it.
func appendConfig(ts *testscript.TestScript, format string, args ...any) {
	path := ts.Getenv("ATOBACKUPD_CONFIG")
	config, err := os.ReadFile(path)
	ts.Check(err)
	ts.Check(os.WriteFile(path, fmt.Appendf(config, format, args...), 0o600))
}

// exitCodeCmd runs `exitcode N command…` and wants exactly that exit status.
func exitCodeCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exitcode N command [arg…]")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	if err != nil {
		exit, ok := err.(*exec.ExitError)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if fmt.Sprint(got) != args[0] {
		ts.Fatalf("exit status %d, not %s", got, args[0])
	}
}

// chromaCmd lays out a directory that a real Chroma server made.
func chromaCmd(ts *testscript.TestScript, neg bool, args []string) {
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	archive, err := filepath.Abs("../../snapshot/chroma/testdata/whole.tar.gz")
	ts.Check(err)
	ts.Check(ts.Exec("tar", "-xzf", archive, "-C", dir, "--strip-components=1"))
}

// storeCmd lays out a live store: a database of two memories and a registry, and
// with `store chroma` a real Chroma directory, which the configuration names.
func storeCmd(ts *testscript.TestScript, neg bool, args []string) {
	for _, dir := range []string{"live/db", "live/config"} {
		ts.Check(os.MkdirAll(ts.MkAbs(dir), 0o755))
	}
	db, err := openForTest(ts.MkAbs("live/db/atocore.db"))
	ts.Check(err)
	defer db.Close()
	_, err = db.Exec("create table memories (id integer primary key, t text); insert into memories values (1, " +
		"'one'), (2, 'two')")
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("live/config/project-registry.json"), []byte(`{"projects": []}`+"\n"), 0o644))
	if slices.Contains(args, "chroma") {
		chromaCmd(ts, false, []string{"live/chroma"})
		path := ts.Getenv("ATOBACKUPD_CONFIG")
		config, err := os.ReadFile(path)
		ts.Check(err)
		config = []byte(strings.Replace(string(config), "[atocore]\n",
			"[atocore]\nchroma_path = \""+ts.MkAbs("live/chroma")+"\"\n", 1))
		ts.Check(os.WriteFile(path, config, 0o600))
	}
}

// vaultCmd configures a recipient, whose identity is key.txt, and for each name a
// target of type dir with a vault in a directory of that name.
func vaultCmd(ts *testscript.TestScript, neg bool, args []string) {
	recipient, err := crypt.WriteIdentity(ts.MkAbs("key.txt"))
	ts.Check(err)
	appendConfig(ts, "[encryption]\nrecipients = [%q]\n", recipient)
	for _, name := range args {
		appendConfig(ts, "[[offsite]]\nname = %q\ntype = \"dir\"\npath = %q\n", name, ts.MkAbs(name))
	}
}

// sshdCmd starts OpenSSH's server and configures it as the target laptop, whose
// host key nobody has trusted yet. The file fingerprint holds the right one.
func sshdCmd(ts *testscript.TestScript, neg bool, args []string) {
	root := ts.MkAbs("laptop")
	ts.Check(os.MkdirAll(root, 0o755))
	server := sshdtest.Start(ts.Value(testingKey{}).(testing.TB), sshdtest.Options{Root: root})
	appendConfig(ts, `[[offsite]]
name = "laptop"
hosts = [%q]
port = %d
user = %q
identity_file = %q
known_hosts = %q
path = %q
`, server.Host, server.Port, server.User, server.IdentityFile, ts.MkAbs("known_hosts"), root+"/vault")
	shown, err := exec.Command("ssh-keygen", "-l", "-f", server.KnownHosts).Output()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("known_hosts"), nil, 0o644))
	ts.Check(os.WriteFile(ts.MkAbs("fingerprint"), []byte(strings.Fields(string(shown))[1]), 0o644))
	ts.Setenv("FINGERPRINT", strings.Fields(string(shown))[1])
}

// sqlMain runs statements on a database, which it makes when it is missing, and
// prints the first value of a query.
func sqlMain() {
	db, err := openForTest(os.Args[1])
	if err == nil {
		defer db.Close()
		if strings.HasPrefix(os.Args[2], "select") {
			var value string
			if err = db.QueryRow(os.Args[2]).Scan(&value); err == nil {
				fmt.Println(value)
			}
		} else {
			_, err = db.Exec(os.Args[2])
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// openForTest opens a database as the application would, made when missing.
func openForTest(path string) (*sql.DB, error) {
	return sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(wal)")
}

// keypairMain writes an identity to a file and prints the recipient.
func keypairMain() {
	recipient, err := crypt.WriteIdentity(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(recipient)
}
