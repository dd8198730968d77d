package chroma

import (
	"context"
	"database/sql"
	"sort"
)

// Which of the two segments of a collection hold a record.
const (
	inVectors = 1 << iota
	inRecords
)

// replay does to the names of a collection's records what Chroma will do when
// it loads the collection: each segment holds the log up to its max_seq_id, and
// the entries after that are applied to it. Both must then hold the same
// records. This is the decisive check: a copy whose two sides belong to
// different moments fails it although each side is sound by itself.
func (v *validator) replay(ctx context.Context, db *sql.DB, c *catalog, col *collection, seg segment) error {
	vectorSeq, recorded := c.maxSeq[col.vectors[0].id]
	if !recorded {
		vectorSeq = seg.maxSeq
	}
	recordSeq := c.maxSeq[col.records[0].id]
	if !seg.persisted && vectorSeq > 0 {
		v.report.fail(
			CodeSegmentMissing,
			"segment %s of collection %s: max_seq_id is %d, but %s is missing",
			col.vectors[0].id,
			col.label(),
			vectorSeq,
			pickleName,
		)
		return nil
	}
	if vectorSeq > recordSeq {
		v.report.fail(
			CodeLogGap,
			"collection %s: max_seq_id of the vectors is %d, of the records only %d",
			col.label(),
			vectorSeq,
			recordSeq,
		)
	}
	if most := max(vectorSeq, recordSeq); most > c.lastInLog {
		v.report.fail(
			CodeLogGap,
			"collection %s: the log ends at %d, before max_seq_id %d: new writes would be taken for old ones",
			col.label(),
			c.lastInLog,
			most,
		)
	}
	if col.badVector > 0 {
		v.report.fail(
			CodeLogGap,
			"collection %s: log entry %d has a vector that does not fit dimension %d",
			col.label(),
			col.badVector,
			col.dimension.Int64,
		)
	}
	if !seg.judged {
		return nil // what is wrong with its ids has been said
	}
	held := make(map[string]uint8, len(seg.ids))
	for id := range seg.ids {
		held[id] = inVectors
	}
	if err := v.records(ctx, db, col, vectorSeq, held); err != nil {
		return err
	}
	for _, e := range col.log {
		var behind uint8
		if e.seq > vectorSeq {
			behind |= inVectors
		}
		if e.seq > recordSeq {
			behind |= inRecords
		}
		switch e.operation {
		case opAdd, opUpsert:
			held[e.id] |= behind
		case opDelete:
			held[e.id] &^= behind
		}
	}
	v.compare(col, held)
	return nil
}

// records adds the names in the metadata segment to held, and looks for writes
// that the vectors lack and the log has lost.
func (v *validator) records(
	ctx context.Context,
	db *sql.DB,
	col *collection,
	vectorSeq int64,
	held map[string]uint8,
) error {
	lost, first := 0, int64(0)
	// Numbers stored as blobs are older than every log that is still replayed.
	const query = `SELECT CAST(embedding_id AS TEXT), CASE typeof(seq_id) WHEN 'integer' THEN seq_id ELSE 0 END
		FROM embeddings WHERE segment_id = ?`
	err := eachRow(ctx, db, query, func(rows *sql.Rows) error {
		var id string
		var seq int64
		if err := rows.Scan(&id, &seq); err != nil {
			return err
		}
		held[id] |= inRecords
		if seq > vectorSeq && !col.logged(seq) {
			if lost++; lost == 1 {
				first = seq
			}
		}
		return nil
	}, col.records[0].id)
	if lost > 0 {
		v.report.fail(
			CodeLogGap,
			"collection %s: %d writes after %d are not in the log, e.g. %d",
			col.label(),
			lost,
			vectorSeq,
			first,
		)
	}
	return err
}

// logged reports whether the log holds an entry of this number.
func (c *collection) logged(seq int64) bool {
	i := sort.Search(len(c.log), func(i int) bool { return c.log[i].seq >= seq })
	return i < len(c.log) && c.log[i].seq == seq
}

// compare counts the records and reports those that only one side holds.
func (v *validator) compare(col *collection, held map[string]uint8) {
	var lost, ghosts int
	var lostID, ghostID string // the first by name, so that the text is stable
	for id, sides := range held {
		switch sides {
		case inVectors | inRecords:
			v.report.Vectors++
		case inRecords:
			if lost++; lost == 1 || id < lostID {
				lostID = id
			}
		case inVectors:
			if ghosts++; ghosts == 1 || id < ghostID {
				ghostID = id
			}
		}
	}
	if lost > 0 {
		v.report.fail(
			CodeIDsDiffer,
			"collection %s: %d records have no vector, e.g. %q",
			col.label(),
			lost,
			clip(lostID, 64),
		)
	}
	if ghosts > 0 {
		v.report.fail(
			CodeIDsDiffer,
			"collection %s: %d vectors have no record, e.g. %q",
			col.label(),
			ghosts,
			clip(ghostID, 64),
		)
	}
}
