package main

import (
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/atocore/atobackupd/crypt"
	_ "github.com/atocore/atobackupd/snapshot/sqlite" // registers the driver
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"atobackupd": main,
		"sql":        sqlMain,
		"keypair":    keypairMain,
	})
}

// TestScripts plays every script of testdata/script: what an operator types,
// and what comes back, with the real binary.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("ATOBACKUPD_CONFIG", filepath.Join(env.WorkDir, "config.toml"))
			config := strings.ReplaceAll(baseConfig, "$WORK", env.WorkDir)
			return os.WriteFile(filepath.Join(env.WorkDir, "config.toml"), []byte(config), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exitcode": exitCodeCmd,
			"chroma":   chromaCmd,
		},
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
