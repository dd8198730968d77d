package chroma

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"strings"
)

// catalog is what chroma.sqlite3 says about collections, segments, how far each
// segment has got, and the part of the write log that is still to be replayed.
type catalog struct {
	collections       []collection
	maxSeq            map[string]int64 // segment to the last log entry it holds
	lastInLog         int64            // 0 when the log is empty
	strangeOperations int
}

type collection struct {
	id, name  string
	dimension sql.NullInt64 // unknown until the first write
	vectors   []segmentRow  // exactly one each in a sound database
	records   []segmentRow
	log       []logEntry // in order; those that a segment lacks, and perhaps more
	badVector int64      // a log entry whose vector has the wrong length, or 0
}

type segmentRow struct{ id, kind string }

type logEntry struct {
	seq       int64
	operation int64
	id        string
}

// The operations of embeddings_queue.
const (
	opAdd    = 0
	opUpdate = 1
	opUpsert = 2
	opDelete = 3
)

func (c *collection) label() string { return clip(c.name, 64) }

// schema lists the tables and columns that readCatalog and replay read.
var schema = []struct {
	table   string
	columns []string
}{
	{"collections", []string{"id", "name", "dimension"}},
	{"segments", []string{"id", "type", "scope", "collection"}},
	{"max_seq_id", []string{"segment_id", "seq_id"}},
	{"embeddings", []string{"segment_id", "embedding_id", "seq_id"}},
	{"embeddings_queue", []string{"seq_id", "operation", "topic", "id", "vector"}},
}

// missingSchema names a table or column that is not there. A view or a virtual
// table does not count: reading it would run what its maker wrote.
func missingSchema(ctx context.Context, db *sql.DB) (string, error) {
	for _, s := range schema {
		var real int
		err := db.QueryRowContext(
			ctx,
			"SELECT count(*) FROM sqlite_master WHERE type='table' AND name=? AND rootpage>0",
			s.table,
		).Scan(&real)
		if err != nil {
			return "", err
		}
		if real != 1 {
			return "table " + s.table, nil
		}
		for _, column := range s.columns {
			err := db.QueryRowContext(
				ctx,
				"SELECT count(*) FROM pragma_table_info(?) WHERE name=?",
				s.table,
				column,
			).Scan(&real)
			if err != nil {
				return "", err
			}
			if real != 1 {
				return fmt.Sprintf("column %s in table %s", column, s.table), nil
			}
		}
	}
	return "", nil
}

func readCatalog(ctx context.Context, db *sql.DB) (*catalog, error) {
	c := &catalog{}
	err := eachRow(
		ctx,
		db,
		"SELECT CAST(id AS TEXT), CAST(name AS TEXT), CAST(dimension AS INTEGER) FROM collections ORDER BY id",
		func(rows *sql.Rows) error {
			var col collection
			err := rows.Scan(&col.id, &col.name, &col.dimension)
			c.collections = append(c.collections, col)
			return err
		},
	)
	if err != nil {
		return nil, err
	}
	byID := make(map[string]*collection, len(c.collections))
	for i := range c.collections {
		byID[c.collections[i].id] = &c.collections[i]
	}
	err = eachRow(
		ctx,
		db,
		"SELECT CAST(id AS TEXT), CAST(type AS TEXT), CAST(scope AS TEXT), CAST(collection AS TEXT) FROM segments",
		func(rows *sql.Rows) error {
			var s segmentRow
			var scope, owner string
			if err := rows.Scan(&s.id, &s.kind, &scope, &owner); err != nil {
				return err
			}
			switch col := byID[owner]; {
			case col == nil: // of a collection that was deleted
			case scope == "VECTOR":
				col.vectors = append(col.vectors, s)
			case scope == "METADATA":
				col.records = append(col.records, s)
			}
			return nil
		},
	)
	if err != nil {
		return nil, err
	}
	if c.maxSeq, err = readMaxSeq(ctx, db); err != nil {
		return nil, err
	}
	return c, c.readLog(ctx, db, byID)
}

// readMaxSeq returns the last log entry that each segment holds.
func readMaxSeq(ctx context.Context, db *sql.DB) (map[string]int64, error) {
	seqs := map[string]int64{}
	err := eachRow(ctx, db, "SELECT CAST(segment_id AS TEXT), seq_id FROM max_seq_id", func(rows *sql.Rows) error {
		var id string
		var raw any
		if err := rows.Scan(&id, &raw); err != nil {
			return err
		}
		switch seq := raw.(type) {
		case int64:
			seqs[id] = seq
		case []byte: // before Chroma 1.0: eight bytes, big-endian
			if len(seq) == 8 {
				seqs[id] = int64(binary.BigEndian.Uint64(seq))
			}
		}
		return nil
	})
	return seqs, err
}

// readLog reads embeddings_queue once, however many collections there are, and
// keeps of it what a segment still lacks. Chroma purges the rest sooner or
// later, but older versions never did, so there may be gigabytes of it.
func (c *catalog) readLog(ctx context.Context, db *sql.DB, byID map[string]*collection) error {
	return eachRow(
		ctx,
		db,
		`SELECT CAST(seq_id AS INTEGER), CAST(operation AS INTEGER), CAST(topic AS TEXT), CAST(id AS TEXT),
			length(CAST(vector AS BLOB))
		FROM embeddings_queue ORDER BY seq_id`,
		func(rows *sql.Rows) error {
			var e logEntry
			var topic string
			var vector sql.NullInt64
			if err := rows.Scan(&e.seq, &e.operation, &topic, &e.id, &vector); err != nil {
				return err
			}
			c.lastInLog = max(c.lastInLog, e.seq)
			col := byID[topic[strings.LastIndexByte(topic, '/')+1:]]
			if col == nil {
				return nil
			}
			carries := e.operation == opAdd || e.operation == opUpsert || (e.operation == opUpdate && vector.Valid)
			if carries && col.dimension.Valid && vector.Int64 != 4*col.dimension.Int64 && col.badVector == 0 {
				col.badVector = e.seq
			}
			if e.operation < opAdd || e.operation > opDelete {
				c.strangeOperations++
			}
			if e.seq > c.floor(col) {
				col.log = append(col.log, e)
			}
			return nil
		},
	)
}

// floor is the entry up to which both segments of a collection hold the log.
func (c *catalog) floor(col *collection) int64 {
	if len(col.vectors) != 1 || len(col.records) != 1 {
		return 0
	}
	return min(c.maxSeq[col.vectors[0].id], c.maxSeq[col.records[0].id])
}

func (c *catalog) vectorSegments() map[string]bool {
	known := map[string]bool{}
	for _, col := range c.collections {
		for _, s := range col.vectors {
			known[s.id] = true
		}
	}
	return known
}

// CountRecords returns the records of each collection, by its name; nil where the
// database is of a format that is not known.
func CountRecords(ctx context.Context, db *sql.DB) (map[string]int64, error) {
	if lacks, err := missingSchema(ctx, db); err != nil || lacks != "" {
		return nil, err
	}
	counts := map[string]int64{}
	const query = `SELECT CAST(c.name AS TEXT), (SELECT count(*) FROM embeddings e JOIN segments s ON e.segment_id = s.id
		WHERE s.collection = c.id AND s.scope = 'METADATA') FROM collections c`
	err := eachRow(ctx, db, query, func(rows *sql.Rows) error {
		var name string
		var n int64
		err := rows.Scan(&name, &n)
		counts[clip(name, 64)] += n
		return err
	})
	return counts, err
}

// queryer is a connection or a pool of them.
type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// eachRow calls fn for every row of a query.
func eachRow(ctx context.Context, db queryer, query string, fn func(*sql.Rows) error, args ...any) error {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := fn(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
