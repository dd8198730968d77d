// Package chroma copies and judges Chroma directories: chroma.sqlite3 with the
// records, their metadata and the write log, and beside it one directory of
// HNSW files for every vector segment.
//
// Chroma rewrites the segment files in place, without a temporary and without
// an fsync, and only then notes in SQLite how far they reach. A copy in which
// the two sides do not belong together loses vectors without a word, or does
// not load. CopyLive therefore proves of each copy that nothing moved while it
// was made, and Validate judges a copy by what Chroma would do with it, without
// running Chroma.
package chroma

import (
	"fmt"
	"strings"

	"github.com/atocore/atobackupd/internal/failure"
)

// The codes of findings that make a copy invalid. Programs act on them.
const (
	CodeUnchecked      = "chroma_db_not_checked_whole"      // a warning: SQLite alone cannot check some table
	CodeDatabase       = "chroma_db_integrity_check_failed" // chroma.sqlite3 is damaged or not whole
	CodeSegmentMissing = "chroma_segment_missing"           // a segment or one of its files is absent
	CodeSegmentCorrupt = "chroma_segment_corrupt"           // a segment's files contradict each other
	CodeLogGap         = "chroma_log_gap"                   // writes that the vectors lack are not in the log
	CodeIDsDiffer      = "chroma_ids_differ"                // records and vectors would not be the same ones
)

// The codes of findings that are only warnings.
const (
	CodeUnrecognised = "chroma_format_unrecognised" // it could not be judged
	CodeOrphan       = "chroma_segment_orphan"      // a directory that belongs to no collection
	CodeLeftOut      = "chroma_file_left_out"       // a raw copy lacks it
	CodeCutShort     = "chroma_persist_cut_short"   // a segment's files are older and newer than its pickle, at rest
)

// How far a copy has been proven, as the manifest records it.
const (
	Consistent = "consistent" // the validator knows the format and found nothing wrong
	Unverified = "unverified" // the format is not recognised, or something is wrong
)

// Names inside a Chroma directory.
const (
	databaseName = "chroma.sqlite3"
	pickleName   = "index_metadata.pickle"
	headerName   = "header.bin"
	level0Name   = "data_level0.bin"
	lengthName   = "length.bin"
	linksName    = "link_lists.bin"
)

// DatabaseName is the file of a Chroma directory that holds the records.
const DatabaseName = databaseName

var segmentFiles = []string{headerName, level0Name, lengthName, linksName, pickleName}

// Finding is one thing that Validate has to say: a stable code for programs and
// a text that names segment or collection, file and number.
type Finding struct{ Code, Text string }

// String reads "code: text".
func (f Finding) String() string { return f.Code + ": " + f.Text }

// Report is the judgement of one copied directory. It is valid when it has no
// errors; Consistency then still reports whether the format was recognised.
type Report struct {
	Errors      []Finding // at most maxFindings, the rest is counted in the last one
	Warnings    []Finding // likewise
	Consistency string    // Consistent or Unverified
	Collections int       // collections that have been written to
	Vectors     int       // records that Chroma would serve, over all collections
	moreErrors  int
	moreWarns   int
}

// maxFindings bounds what a wholly broken or hostile directory can make us say.
const maxFindings = 50

func (r *Report) fail(code, format string, args ...any) {
	if len(r.Errors) >= maxFindings {
		r.moreErrors++
		return
	}
	r.Errors = append(r.Errors, Finding{code, fmt.Sprintf(format, args...)})
}

func (r *Report) warn(code, format string, args ...any) {
	if len(r.Warnings) >= maxFindings {
		r.moreWarns++
		return
	}
	r.Warnings = append(r.Warnings, Finding{code, fmt.Sprintf(format, args...)})
}

// close settles the verdict once everything has been looked at.
func (r *Report) close(recognised bool) {
	if n := r.moreErrors; n > 0 {
		last := &r.Errors[len(r.Errors)-1]
		last.Text += fmt.Sprintf(" (and %d more)", n)
	}
	if n := r.moreWarns; n > 0 {
		last := &r.Warnings[len(r.Warnings)-1]
		last.Text += fmt.Sprintf(" (and %d more)", n)
	}
	r.Consistency = Unverified
	if recognised && len(r.Errors) == 0 {
		r.Consistency = Consistent
	}
}

// Err returns nil for a report without errors, else an error of kind Invalid that
// lists the first of them.
func (r Report) Err(dir string) error {
	if len(r.Errors) == 0 {
		return nil
	}
	var texts []string
	for i, f := range r.Errors {
		if i == 5 {
			texts = append(texts, fmt.Sprintf("and %d more", len(r.Errors)-i))
			break
		}
		texts = append(texts, f.String())
	}
	return &failure.Error{Op: "validate", Subject: dir, Kind: failure.Invalid,
		Err: fmt.Errorf("%s", strings.Join(texts, "; "))}
}
