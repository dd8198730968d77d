package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// stored makes a database by SQL and returns its path.
func stored(t *testing.T, statements ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "stored.db")
	db, err := openPlain(path, "mode=rwc")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func codes(findings []Finding) string {
	var all []string
	for _, f := range findings {
		all = append(all, f.Code)
	}
	return strings.Join(all, " ")
}

func overwrite(t *testing.T, path string, offset int64, data []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(data, offset)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestCheck(t *testing.T) {
	rows := `WITH RECURSIVE c(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM c WHERE i < 5000) INSERT INTO t SELECT i, hex(randomblob(50)) FROM c`
	schema := []string{
		"PRAGMA page_size = 1024",
		"CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT)",
		"CREATE INDEX tb ON t(b)",
		rows,
	}
	for _, test := range []struct {
		name             string
		statements       []string
		damage           func(path string)
		tables           []string
		problem, warning string
	}{
		{"sound", schema, nil, []string{"T"}, "", ""},
		{"sound in wal mode", append([]string{"PRAGMA journal_mode = wal"}, schema...), nil, nil, "", ""},
		{
			"no such table",
			schema,
			nil,
			[]string{"t", "memories", "notes"},
			CodeTableMissing + " " + CodeTableMissing,
			"",
		},
		{"empty file", nil, nil, nil, CodeNotSQLite, ""},
		{"overwritten header", schema, func(p string) { overwrite(t, p, 0, make([]byte, 16)) }, nil, CodeNotSQLite, ""},
		{"truncated", schema, func(p string) { os.Truncate(p, 200*1024) }, nil, CodeIntegrity, ""},
		{"truncated to its first page", schema, func(p string) { os.Truncate(p, 1024) }, nil, CodeIntegrity, ""},
		{
			"one page of zeros",
			schema,
			func(p string) { overwrite(t, p, 100*1024, make([]byte, 1024)) },
			nil,
			CodeIntegrity,
			"",
		},
		{"a cell that runs over its page", schema, func(p string) {
			overwrite(t, p, 100*1024+8, []byte{3, 0xfe})
		}, nil, CodeIntegrity, ""},
		{"damaged schema", schema, func(p string) { overwrite(t, p, 100, make([]byte, 900)) }, nil, CodeIntegrity, ""},
		{"impossible page size", schema, func(p string) { overwrite(t, p, 16, []byte{3, 3}) }, nil, CodeNotSQLite, ""},
		{
			"-wal beside it",
			schema,
			func(p string) { os.WriteFile(p+walSuffix, []byte("x"), 0o600) },
			nil,
			CodeSidecarPresent,
			"",
		},
		{"empty -wal beside it, and a -shm", schema, func(p string) {
			os.WriteFile(p+walSuffix, nil, 0o600)
			os.WriteFile(p+shmSuffix, make([]byte, 32768), 0o600)
		}, nil, "", CodeSidecarPresent + " " + CodeSidecarPresent},
		{"-journal beside it", schema, func(p string) {
			os.WriteFile(p+journalSuffix, []byte("x"), 0o600)
		}, nil, CodeSidecarPresent, ""},
		{
			"orphans",
			append(schema, "CREATE TABLE child(x REFERENCES t(a))", "INSERT INTO child VALUES(1), (9999), (8888)"),
			nil,
			nil,
			"",
			CodeForeignKeys,
		},
		{
			"orphan without rowid",
			append(
				schema,
				"CREATE TABLE child(x PRIMARY KEY REFERENCES t(a)) WITHOUT ROWID",
				"INSERT INTO child VALUES(9999)",
			),
			nil,
			nil,
			"",
			CodeForeignKeys,
		},
		{
			"key that cannot be checked",
			append(schema, "CREATE TABLE p(x)", "CREATE TABLE child(x REFERENCES p(x))", "INSERT INTO child VALUES(1)"),
			nil,
			nil,
			"",
			CodeForeignKeys,
		},
		{"broken constraint", append(schema, "CREATE TABLE n(x NOT NULL)",
			"PRAGMA ignore_check_constraints = 1", "PRAGMA writable_schema = 1",
			"UPDATE sqlite_master SET sql = 'CREATE TABLE n(x)' WHERE name = 'n'",
			"PRAGMA writable_schema = reset", "INSERT INTO n VALUES(NULL)",
			"PRAGMA writable_schema = 1",
			"UPDATE sqlite_master SET sql = 'CREATE TABLE n(x NOT NULL)' WHERE name = 'n'",
		), nil, nil, CodeIntegrity, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := stored(t, test.statements...)
			if test.damage != nil {
				test.damage(path)
			}
			before := fsxtest.Tree(t, filepath.Dir(path))
			problems, warnings, err := Check(context.Background(), path, CheckOptions{RequiredTables: test.tables})
			if err != nil {
				t.Fatal(err)
			}
			if codes(problems) != test.problem || codes(warnings) != test.warning {
				t.Errorf("problems %v, warnings %v", problems, warnings)
			}
			for _, f := range slices.Concat(problems, warnings) {
				if !strings.HasPrefix(f.Text, path) || len(f.Text) < len(path)+5 {
					t.Errorf("says too little: %q", f.Text)
				}
			}
			if after := fsxtest.Tree(t, filepath.Dir(path)); after != before {
				t.Errorf("left behind:\n%s", after)
			}
		})
	}
}

func TestCheckGivesNoVerdict(t *testing.T) {
	path := stored(t, "CREATE TABLE t(a)")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if problems, _, err := Check(ctx, path, CheckOptions{}); !errors.Is(err, context.Canceled) || problems != nil {
		t.Errorf("cancelled: %v %v", problems, err)
	}
	missing := path + ".missing"
	if problems, _, err := Check(context.Background(), missing, CheckOptions{}); !errors.Is(err, fs.ErrNotExist) ||
		problems != nil {
		t.Errorf("missing: %v %v", problems, err)
	}
	if _, err := os.Lstat(missing); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the missing database was created")
	}
}

// A page that cannot be read ends the check, not the process.
func TestGuardFault(t *testing.T) {
	path := stored(t, "CREATE TABLE t(a)", "INSERT INTO t SELECT randomblob(200000)")
	err := WithStored(context.Background(), path, func(_ context.Context, db *sql.DB, _ int64) error {
		var n int
		if err := db.QueryRow("SELECT count(*) FROM t").Scan(&n); err != nil {
			return err
		}
		// What an unreadable sector gives, too: SIGBUS on mapped memory.
		if err := os.Truncate(path, 4096); err != nil {
			return err
		}
		return db.QueryRow("SELECT length(hex(a)) FROM t").Scan(&n)
	})
	if !errors.Is(err, errFault) || !damaged(err) {
		t.Errorf("%v", err)
	}
	mapped, err := mapFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mapped)
	if err := guardFault(func() error { return fmt.Errorf("read %d", mapped[1<<16]) }); !errors.Is(err, errFault) {
		t.Errorf("%v", err)
	}
	defer func() {
		if recover() != "other" {
			t.Error("another panic was swallowed")
		}
	}()
	_ = guardFault(func() error { panic("other") })
}

func mapFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return unix.Mmap(int(f.Fd()), 0, 1<<20, unix.PROT_READ, unix.MAP_SHARED)
}

func TestInspect(t *testing.T) {
	path := stored(
		t,
		"PRAGMA user_version = 3",
		"PRAGMA application_id = -5",
		"CREATE TABLE plain(a)",
		"INSERT INTO plain VALUES(1), (2)",
		`CREATE TABLE "odd ""name"" with 'quotes', %_ and 資料"(a)`,
		`INSERT INTO "odd ""name"" with 'quotes', %_ and 資料" VALUES(1)`,
		"CREATE TABLE noid(a PRIMARY KEY) WITHOUT ROWID",
		"INSERT INTO noid VALUES(1), (2), (3)",
		"CREATE TABLE sqliteish(a)",
		`CREATE TABLE "select"(a)`,
		"CREATE TABLE counted(a INTEGER PRIMARY KEY AUTOINCREMENT)",
		"INSERT INTO counted DEFAULT VALUES",
		"CREATE VIEW seen AS SELECT * FROM plain",
		"CREATE VIRTUAL TABLE words USING fts5(a)",
		"INSERT INTO words VALUES('x')",
	)
	info, err := Inspect(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	if info.UserVersion != 3 || info.ApplicationID != -5 || info.PageSize != 4096 || info.PageCount < 9 ||
		info.JournalMode != "delete" {
		t.Errorf("%+v", info)
	}
	want := map[string]int64{
		"plain": 2,
		`odd "name" with 'quotes', %_ and 資料`: 1,
		"noid":          3,
		"sqliteish":     0,
		"select":        0,
		"counted":       1,
		"words_content": 1,
		"words_docsize": 1,
	}
	for name, rows := range want {
		if got, ok := info.Tables[name]; !ok || got != rows {
			t.Errorf("%s: %d rows, want %d", name, got, rows)
		}
	}
	for name := range info.Tables {
		if _, ok := want[name]; !ok && !strings.HasPrefix(name, "words_") {
			t.Errorf("%s is counted, of %v", name, slices.Sorted(maps.Keys(info.Tables)))
		}
	}
	onlyFile(t, path)
	if _, err := Inspect(context.Background(), path+".missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

func TestQueryTrue(t *testing.T) {
	path := stored(t, "PRAGMA journal_mode = wal", "CREATE TABLE t(a, b BOOLEAN)", "INSERT INTO t VALUES(1, 1), (2, 0)")
	for query, want := range map[string]string{
		"SELECT count(*) > 1 FROM t":       "true",
		"select count(*) > 2 from t;":      "false",
		"SELECT 0.5":                       "true",
		"SELECT 0.0":                       "false",
		"SELECT NULL":                      "false",
		"SELECT '1'":                       "true",
		"SELECT 'yes'":                     "false",
		"SELECT x'31'":                     "true",
		"SELECT b FROM t WHERE a = 1":      "true",
		"SELECT b FROM t WHERE a = 2":      "false",
		"SELECT a FROM t":                  "gave more than one row",
		"SELECT 1, 2":                      "gave 2 columns, not one",
		"SELECT a FROM t WHERE a > 5":      "gave no row",
		"SELECT nonsense FROM t":           "no such column",
		"DELETE FROM t RETURNING 1":        "readonly",
		"DELETE FROM t":                    "readonly",
		"SELECT count(*) FROM not_there":   "no such table",
		"PRAGMA journal_mode = delete":     "delete",
		"PRAGMA user_version":              "false",
		"SELECT 1 FROM t WHERE a = 1 -- c": "true",
	} {
		got := ""
		switch value, err := QueryTrue(context.Background(), path, tree.Trusted(""), query); {
		case err != nil:
			got = err.Error()
		case value:
			got = "true"
		default:
			got = "false"
		}
		if query == "PRAGMA journal_mode = delete" {
			continue // what it says is SQLite's business; that nothing changed is checked below
		}
		if got != want && !(want != "true" && want != "false" && strings.Contains(got, want)) {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	onlyFile(t, path)
	if mode := journalMode(t, path); mode != "wal" {
		t.Errorf("the journal mode became %s", mode)
	}
	// A live database: what is only in the WAL counts.
	p := start(t, "puppet", job{Path: path, Journal: "wal"})
	p.do(t, "INSERT INTO t VALUES(3, 1)")
	if got, err := QueryTrue(
		context.Background(),
		path,
		tree.Trusted(""),
		"SELECT count(*) = 3 FROM t",
	); !got || err != nil {
		t.Errorf("live: %t %v", got, err)
	}
}

// The check looks at each cell itself; whatever reads the database before it or
// after it has each page's cells looked at when it is fetched.
func TestCellsAreCheckedAroundIntegrity(t *testing.T) {
	path := stored(t, "CREATE TABLE t (a)", "INSERT INTO t VALUES (1)")
	err := WithStored(t.Context(), path, func(ctx context.Context, db *sql.DB, size int64) error {
		for _, when := range []string{"before", "after"} {
			var on int
			if err := db.QueryRowContext(ctx, "PRAGMA cell_size_check").Scan(&on); err != nil || on != 1 {
				t.Errorf("%s: %d, %v", when, on, err)
			}
			if problems, _, err := Integrity(ctx, db, size); err != nil || len(problems) > 0 {
				t.Errorf("%s: %q, %v", when, problems, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// What an application alone has, SQLite cannot check; what costs too much is an
// error that names the table, soon, and without the memory that it asks for.
func TestIntegrityOfOthersSchemas(t *testing.T) {
	rows := "WITH RECURSIVE c(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM c WHERE i < 500) "
	for name, test := range map[string]struct {
		sql      []string
		schema   string // put in place of the schema of index i or table v, behind SQLite's back
		problem  string
		warning  string
		shortens bool // the budget to a moment
	}{
		"sound": {sql: []string{"CREATE TABLE t(x)", "CREATE INDEX i ON t(x)"}},
		"a collation": {
			sql:     []string{"CREATE TABLE p(x TEXT)", "INSERT INTO p VALUES('a'), ('b')", "CREATE INDEX i ON p(x)"},
			schema:  "UPDATE sqlite_master SET sql = 'CREATE INDEX i ON p(x COLLATE icu_root)' WHERE name = 'i'",
			warning: `table "p" uses what is not evaluated here (`,
		},
		"a function": {
			sql:     []string{"CREATE TABLE p(x TEXT)", "INSERT INTO p VALUES('a')", "CREATE INDEX i ON p(upper(x))"},
			schema:  "UPDATE sqlite_master SET sql = 'CREATE INDEX i ON p(theirs(x))' WHERE name = 'i'",
			warning: `table "p" uses what is not evaluated here (`,
		},
		"a module": {
			sql:    []string{"CREATE VIRTUAL TABLE v USING fts5(x)"}, // its shadow tables are checked all the same
			schema: "UPDATE sqlite_master SET sql = 'CREATE VIRTUAL TABLE v USING theirs(x)' WHERE name = 'v'",
		},
		"days for a row": {
			sql: []string{"CREATE TABLE h(a)", "CREATE INDEX i ON h(a)", "INSERT INTO h VALUES(1)"},
			schema: "UPDATE sqlite_master SET sql = 'CREATE INDEX i ON h(instr(hex(zeroblob(40000000)), " +
				"hex(zeroblob(20000000)) || a))' WHERE name = 'i'",
			warning: `table "h" uses what is not evaluated here (`,
		},
		"days for a pattern": {
			sql: []string{"CREATE TABLE h(a)", "CREATE INDEX i ON h(a)", "INSERT INTO h VALUES(1)"},
			schema: "UPDATE sqlite_master SET sql = 'CREATE INDEX i ON h(hex(zeroblob(40000000)) LIKE (''%'' || " +
				"hex(zeroblob(20000)) || a))' WHERE name = 'i'",
			problem: "LIKE or GLOB pattern too complex",
		},
		"gigabytes for a row": {
			sql: []string{
				"CREATE TABLE h(a)",
				"CREATE INDEX i ON h(substr(hex(zeroblob(a)), 1, 1))",
				"INSERT INTO h VALUES(1)",
			},
			schema: "UPDATE sqlite_master SET sql = 'CREATE INDEX i ON h(substr(hex(zeroblob(400000000 + a)), 1, " +
				"1))' WHERE name = 'i'",
			problem: `table "h": `,
		},
		"too long": {
			sql: []string{
				"CREATE TABLE h(a)",
				"CREATE INDEX i ON h(substr(hex(zeroblob(1000000 + a)), 1, 1))",
				rows + "INSERT INTO h SELECT i FROM c",
			},
			shortens: true,
			problem:  `table "h": its check takes longer`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := stored(t, test.sql...)
			if test.schema != "" {
				db, err := openPlain(path, "mode=rw&_pragma=writable_schema(on)")
				if err != nil {
					t.Fatal(err)
				}
				if _, err := db.Exec(test.schema); err != nil {
					t.Fatal(err)
				}
				db.Close()
			}
			if test.shortens {
				defer func(d time.Duration) { minBudget = d }(minBudget)
				minBudget = 100 * time.Millisecond
			}
			problems, warnings, err := Check(context.Background(), path, CheckOptions{})
			if err != nil {
				t.Fatal(err)
			}
			check := func(what string, found []Finding, code, want string) {
				if want == "" && len(found) > 0 || want != "" && (len(found) != 1 || found[0].Code != code ||
					!strings.Contains(found[0].Text, want)) {
					t.Errorf("%s %q, want %s with %q", what, found, code, want)
				}
			}
			check("problems", problems, CodeIntegrity, test.problem)
			check("warnings", warnings, CodeUnchecked, test.warning)
			t.Log(problems, warnings)
		})
	}
}
