package chroma

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/failure"
)

func TestValidateWhole(t *testing.T) {
	dir := unpack(t, "whole")
	before := list(t, dir)
	r := judge(t, dir)
	if len(r.Errors) > 0 || len(r.Warnings) > 0 || r.Consistency != Consistent || r.Collections != 2 ||
		r.Vectors != 240 {
		t.Errorf("report: %+v", r)
	}
	if r.Err(dir) != nil {
		t.Errorf("Err: %v", r.Err(dir))
	}
	if after := list(t, dir); after != before {
		t.Errorf("validation changed the directory:\n%s\n%s", before, after)
	}
}

// list returns all names and times below dir.
func list(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil {
			all.WriteString(path + info.ModTime().String() + "\n")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

func TestValidateKilledInPersist(t *testing.T) {
	dir := unpack(t, "broken")
	r := judge(t, dir)
	wantError(t, r, CodeSegmentCorrupt, "header.bin counts 120 elements, index_metadata.pickle 80")
	if failure.KindOf(r.Err(dir)) != failure.Invalid {
		t.Errorf("Err: %v", r.Err(dir))
	}
}

// put returns an edit that overwrites bytes.
func put(at int, bytes ...byte) func([]byte) []byte {
	return func(b []byte) []byte { copy(b[at:], bytes); return b }
}

func u32(n uint32) []byte { return binary.LittleEndian.AppendUint32(nil, n) }
func u64(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }

// The layout of the segments in testdata: 16 neighbours, 8 dimensions.
const (
	wholeElement  = 172
	wholeLabelAt  = 164
	wholeElements = 100
)

func TestValidateSegmentFiles(t *testing.T) {
	for name, c := range map[string]struct {
		file   string
		change func([]byte) []byte
		words  string
	}{
		"short header":      {headerName, func(b []byte) []byte { return b[:99] }, "99 bytes"},
		"long header":       {headerName, func(b []byte) []byte { return append(b, 0) }, "101 bytes"},
		"version 0":         {headerName, put(0, 0), "version 0"},
		"version -1":        {headerName, put(0, u32(math.MaxUint32)...), "version -1"},
		"level 0 elsewhere": {headerName, put(4, 1), "level 0 at 1"},
		"over capacity":     {headerName, put(12, u64(1)...), "100 of 1 elements"},
		"other count": {
			headerName,
			put(20, u64(99)...),
			"header.bin counts 99 elements, index_metadata.pickle 100",
		},
		"count beyond all":    {headerName, put(12, append(u64(1<<63), u64(1<<62)...)...), "elements"},
		"other element size":  {headerName, put(28, u64(176)...), "do not fit dimension 8"},
		"label elsewhere":     {headerName, put(36, u64(160)...), "do not fit dimension 8"},
		"vector elsewhere":    {headerName, put(44, u64(128)...), "do not fit dimension 8"},
		"entry not there":     {headerName, put(56, u32(100)...), "entry point 100"},
		"negative level":      {headerName, put(52, u32(math.MaxUint32)...), "level -1"},
		"other level":         {headerName, put(52, u32(9)...), "entry point"},
		"no neighbours":       {headerName, put(60, u64(0)...), "0, 32 and 16 neighbours"},
		"too many neighbours": {headerName, put(60, u64(1<<40)...), "neighbours"},
		"other level factor":  {headerName, put(84, u64(math.Float64bits(0.5))...), "level factor 0.5"},
		"no level factor":     {headerName, put(84, u64(math.Float64bits(math.NaN()))...), "level factor NaN"},
		"level 0 cut": {
			level0Name,
			func(b []byte) []byte { return b[:99*wholeElement] },
			"17028 bytes for 100 elements",
		},
		"level 0 uneven":      {level0Name, func(b []byte) []byte { return append(b, 0) }, "17201 bytes"},
		"too many links":      {level0Name, put(5*wholeElement, 33, 0), "element 5 has 33 links"},
		"link beyond the end": {level0Name, put(4, u32(100)...), "element 0 links to element 100 of 100"},
		"label 0":             {level0Name, put(wholeLabelAt, u64(0)...), "label 0 of 100"},
		"label beyond":        {level0Name, put(wholeLabelAt, u64(math.MaxUint64)...), "of 100"},
		"label twice": {
			level0Name,
			func(b []byte) []byte { copy(b[wholeLabelAt:wholeElement], b[wholeElement+wholeLabelAt:]); return b },
			"as another one does",
		},
		"deleted here":   {level0Name, func(b []byte) []byte { b[2] |= 1; return b }, "deleted here and alive"},
		"lengths cut":    {lengthName, func(b []byte) []byte { return b[:396] }, "length.bin has 396 bytes"},
		"lengths uneven": {lengthName, func(b []byte) []byte { return append(b, 0) }, "length.bin has 401 bytes"},
		"links cut":      {linksName, func(b []byte) []byte { return b[:len(b)-1] }, "link_lists.bin ends early"},
		"links go on": {
			linksName,
			func(b []byte) []byte { return append(b, 0) },
			"goes on after 100 elements",
		},
		"links uneven":      {linksName, put(0, 3), "element 0 has 3 bytes of links"},
		"links without end": {linksName, put(0, u32(68*1e6)...), "element 0 has 68000000 bytes of links"},
		"pickle cut":        {pickleName, func(b []byte) []byte { return b[:len(b)/2] }, "ends early"},
		"pickle with a stowaw": {
			pickleName,
			func(b []byte) []byte { return append(b, "cos\nsystem\n."...) },
			"after the end",
		},
		"pickle without maps": {pickleName, func([]byte) []byte { return []byte("}.") }, "lacks id_to_label"},
		"maps that differ": {pickleName, func(b []byte) []byte {
			return []byte(strings.Replace(string(b), "X\x0b\x00\x00\x00c", "X\x0b\x00\x00\x00x", 1))
		}, "differ"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := unpack(t, "whole")
			edit(t, filepath.Join(segmentOf(t, dir), c.file), c.change)
			wantError(t, judge(t, dir), CodeSegmentCorrupt, c.words)
		})
	}
}

func TestValidateMissingFiles(t *testing.T) {
	for _, name := range segmentFiles {
		dir := unpack(t, "whole")
		segment := segmentOf(t, dir)
		if err := os.Remove(filepath.Join(segment, name)); err != nil {
			t.Fatal(err)
		}
		r := judge(t, dir)
		wantError(t, r, CodeSegmentMissing, name+" is missing")
		wantError(t, r, CodeSegmentMissing, filepath.Base(segment))
	}
}

// Whatever stands where a file should be is neither followed nor waited for.
func TestValidateStrangeFiles(t *testing.T) {
	for name, make := range map[string]func(path string) error{
		"link":      func(path string) error { return os.Symlink(lengthName, path) },
		"fifo":      func(path string) error { return unix.Mkfifo(path, 0o600) },
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		dir := unpack(t, "whole")
		for _, victim := range []string{
			filepath.Join(segmentOf(t, dir), level0Name),
			filepath.Join(dir, databaseName),
		} {
			if err := errors.Join(os.Remove(victim), make(victim)); err != nil {
				t.Fatal(name, err)
			}
			code := CodeSegmentCorrupt
			if filepath.Base(victim) == databaseName {
				code = CodeDatabase
			}
			wantError(t, judge(t, dir), code, "not a regular file")
		}
	}
}

func TestValidateNewerFormat(t *testing.T) {
	dir := unpack(t, "whole")
	edit(t, filepath.Join(segmentOf(t, dir), headerName), put(0, 2))
	r := judge(t, dir)
	if len(r.Errors) > 0 || len(r.Warnings) != 1 || r.Warnings[0].Code != CodeUnrecognised ||
		r.Consistency != Unverified {
		t.Errorf("report: %+v", r)
	}
}

func TestValidateWithoutDatabase(t *testing.T) {
	r := judge(t, t.TempDir())
	if len(r.Errors) > 0 || len(r.Warnings) != 1 || r.Warnings[0].Code != CodeUnrecognised ||
		r.Consistency != Unverified {
		t.Errorf("report: %+v", r)
	}
	if _, err := Validate(context.Background(), filepath.Join(t.TempDir(), "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent directory: %v", err)
	}
}

// execSQL changes the database of a directory.
func execSQL(t testing.TB, dir string, statements ...string) {
	t.Helper()
	db, err := openDatabase(filepath.Join(dir, databaseName), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func TestValidateDatabase(t *testing.T) {
	for name, c := range map[string]struct {
		sql         string
		code, words string
	}{
		"log purged too far": {
			"DELETE FROM embeddings_queue WHERE seq_id BETWEEN 101 AND 130",
			CodeLogGap,
			"are not in the log",
		},
		"log gone": {"DELETE FROM embeddings_queue", CodeLogGap, "the log ends at 0"},
		"log cut":  {"DELETE FROM embeddings_queue WHERE seq_id > 250", CodeLogGap, "before max_seq_id"},
		"vectors ahead": {
			"UPDATE max_seq_id SET seq_id = 5 WHERE segment_id IN (SELECT id FROM segments WHERE scope='METADATA')",
			CodeLogGap,
			"of the records only 5",
		},
		"vector of other size": {
			"UPDATE embeddings_queue SET vector = zeroblob(12) WHERE seq_id = (SELECT max(seq_id) FROM " +
				"embeddings_queue WHERE operation IN (0,2))",
			CodeLogGap,
			"does not fit dimension 8",
		},
		"record lost": {"DELETE FROM embeddings WHERE id = 3", CodeIDsDiffer, "1 vectors have no record"},
		"record made up": {
			"INSERT INTO embeddings (segment_id, embedding_id, seq_id) SELECT id, 'made-up', 1 FROM segments WHERE " +
				"scope='METADATA' LIMIT 1",
			CodeIDsDiffer,
			`1 records have no vector, e.g. "made-up"`,
		},
		"vectors at the end": {"UPDATE max_seq_id SET seq_id = 312", CodeIDsDiffer, "have no"},
		"segment row lost": {
			"DELETE FROM segments WHERE scope='VECTOR'",
			CodeSegmentMissing,
			"0 vector and 1 metadata segments",
		},
		"segment that leaves": {
			"UPDATE segments SET id = '../../etc' WHERE id IN (SELECT id FROM segments WHERE scope='VECTOR' LIMIT 1)",
			CodeSegmentMissing,
			"is no name of a segment",
		},
		"segment never written": {
			"UPDATE segments SET id = '00000000-0000-0000-0000-000000000000' WHERE id IN (SELECT id FROM segments " +
				"WHERE scope='VECTOR' LIMIT 1)",
			CodeIDsDiffer,
			"records have no vector",
		},
		"dimension":            {"UPDATE collections SET dimension = 9", CodeSegmentCorrupt, "dimension 9"},
		"dimension of nothing": {"UPDATE collections SET dimension = -1", CodeSegmentCorrupt, "dimension"},
		"names that are null": {
			"UPDATE max_seq_id SET segment_id = NULL WHERE seq_id = 100",
			CodeDatabase,
			"cannot be read",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := unpack(t, "whole")
			execSQL(t, dir, c.sql)
			wantError(t, judge(t, dir), c.code, c.words)
		})
	}
}

func TestValidateUnknownDatabases(t *testing.T) {
	for name, sql := range map[string]string{
		"table gone":  "DROP TABLE max_seq_id",
		"column gone": "ALTER TABLE embeddings_queue RENAME COLUMN topic TO subject",
		"view for a table": "ALTER TABLE segments RENAME TO s; CREATE VIEW segments AS WITH RECURSIVE e(i) AS " +
			"(SELECT 1 UNION ALL SELECT i+1 FROM e) SELECT i AS id, i AS type, i AS scope, i AS collection FROM e",
		"other segment type": "UPDATE segments SET type = 'urn:chroma:segment/vector/spann' WHERE scope = 'VECTOR'",
		"other operation":    "UPDATE embeddings_queue SET operation = 9 WHERE operation = 1",
	} {
		t.Run(name, func(t *testing.T) {
			dir := unpack(t, "whole")
			execSQL(t, dir, strings.Split(sql, "; ")...)
			r := judge(t, dir)
			if len(r.Errors) > 0 || len(r.Warnings) == 0 || r.Warnings[0].Code != CodeUnrecognised ||
				r.Consistency != Unverified {
				t.Errorf("report: %+v", r)
			}
		})
	}
}

func TestValidateDamagedDatabase(t *testing.T) {
	for name, c := range map[string]struct {
		change func([]byte) []byte
		words  string
	}{
		"empty":       {func([]byte) []byte { return nil }, "is empty"},
		"not SQLite":  {func([]byte) []byte { return []byte(strings.Repeat("no database ", 500)) }, "not a database"},
		"cut":         {func(b []byte) []byte { return b[:len(b)/2] }, databaseName},
		"zeroed page": {func(b []byte) []byte { clear(b[4096*9 : 4096*10]); return b }, databaseName},
	} {
		t.Run(name, func(t *testing.T) {
			dir := unpack(t, "whole")
			edit(t, filepath.Join(dir, databaseName), c.change)
			wantError(t, judge(t, dir), CodeDatabase, c.words)
		})
	}
}

// A journal that SQLite would roll back makes the database another one than the
// one that was judged; an empty or zeroed one does not.
func TestValidateSidecars(t *testing.T) {
	for content, wrong := range map[string]bool{
		"\xd9\xd5\x05\xf9 a journal": true,
		"":                           false,
		"\x00\x00\x00\x00":           false,
	} {
		dir := unpack(t, "whole")
		if err := os.WriteFile(filepath.Join(dir, databaseName+"-journal"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		r := judge(t, dir)
		if wrong {
			wantError(t, r, CodeDatabase, "unfinished transaction")
		} else if len(r.Errors) > 0 {
			t.Errorf("journal %q: %v", content, r.Errors)
		}
	}
}

func TestValidateOrphan(t *testing.T) {
	dir := unpack(t, "whole")
	const orphan = "01234567-89ab-cdef-0123-456789abcdef"
	if err := os.Mkdir(filepath.Join(dir, orphan), 0o755); err != nil {
		t.Fatal(err)
	}
	r := judge(t, dir)
	if len(r.Errors) > 0 || r.Consistency != Consistent || len(r.Warnings) != 1 ||
		r.Warnings[0] != (Finding{CodeOrphan, orphan + " belongs to no collection"}) {
		t.Errorf("report: %+v", r)
	}
}

func TestValidateStopsWhenCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Validate(ctx, unpack(t, "whole")); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// However much is wrong, the report stays readable.
func TestReportIsBounded(t *testing.T) {
	dir := unpack(t, "whole")
	edit(t, filepath.Join(segmentOf(t, dir), level0Name), func(b []byte) []byte { clear(b); return b })
	r := judge(t, dir)
	if len(r.Errors) != maxFindings || !strings.Contains(r.Errors[maxFindings-1].Text, "more)") {
		t.Errorf("%d errors, the last %v", len(r.Errors), r.Errors[len(r.Errors)-1])
	}
	if text := r.Err(dir).Error(); len(text) > 2000 {
		t.Errorf("the error has %d bytes", len(text))
	}
}

// Chroma before 1.0 kept the vectors' max_seq_id in the pickle, and numbers in
// SQLite as blobs.
func TestValidateOldNumbers(t *testing.T) {
	const vectors = "segment_id IN (SELECT id FROM segments WHERE scope = 'VECTOR')"
	for name, c := range map[string]struct {
		sql    string
		pickle string // of docs_0, which holds the log up to 100
		errors int
	}{
		"in the pickle": {"DELETE FROM max_seq_id WHERE seq_id = 100 AND " + vectors, "max_seq_idKd", 0},
		"nowhere":       {"DELETE FROM max_seq_id WHERE seq_id = 100 AND " + vectors, "max_seq_idK\x00", 1},
		"as blobs": {
			"UPDATE max_seq_id SET seq_id = x'0000000000000064' WHERE seq_id = 100",
			"max_seq_idKc",
			0,
		},
		"as a blob of no width": {"UPDATE max_seq_id SET seq_id = x'64' WHERE seq_id = 100", "max_seq_idK\x00", 1},
	} {
		dir := unpack(t, "whole")
		db := openDB(t, dir)
		var segment string
		if err := db.QueryRow("SELECT segment_id FROM max_seq_id WHERE seq_id = 100 AND " + vectors).Scan(
			&segment,
		); err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec(c.sql); err != nil {
			t.Fatal(err)
		}
		edit(t, filepath.Join(dir, segment, pickleName), func(b []byte) []byte {
			return []byte(strings.Replace(string(b), "max_seq_idN", c.pickle, 1))
		})
		if r := judge(t, dir); min(len(r.Errors), 1) != c.errors {
			t.Errorf("%s: %v", name, r.Errors)
		}
	}
}

// Of a database that is not sound nothing else is believed, so that what it says
// about segments is no finding.
func TestDamagedDatabaseIsAllThatIsTold(t *testing.T) {
	dir := unpack(t, "broken")
	edit(t, databaseIn(dir), func(b []byte) []byte {
		clear(b[len(b)/2 : len(b)/2+8192])
		return b
	})
	r := judge(t, dir)
	if len(r.Errors) == 0 || r.Collections != 0 || r.Consistency != Unverified {
		t.Errorf("%+v", r)
	}
	for _, f := range r.Errors {
		if f.Code != CodeDatabase {
			t.Errorf("%s: %s", f.Code, f.Text)
		}
	}
}
