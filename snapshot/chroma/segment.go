package chroma

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// segment is what the files of one vector segment say.
type segment struct {
	persisted bool             // Chroma will load them; without a pickle it does not
	judged    bool             // ids can be relied on
	ids       map[string]int64 // record to label
	maxSeq    int64            // as Chroma before 1.0 kept it in the pickle, else 0
}

// segmentJudge reads the files of one vector segment below root.
type segmentJudge struct {
	root      *os.Root
	report    *Report
	id        string
	dimension int64
	newer     bool // the format was not recognised
}

func (j *segmentJudge) corrupt(format string, args ...any) bool {
	j.report.fail(CodeSegmentCorrupt, "segment %s: %s", j.id, fmt.Sprintf(format, args...))
	return j.report.moreErrors == 0
}

// judge looks at everything that can be judged without the database. An error
// is one of reading; what is wrong with the segment goes into the report.
func (j *segmentJudge) judge(ctx context.Context) (s segment, err error) {
	if _, err := j.root.Lstat(j.id + "/" + pickleName); errors.Is(err, fs.ErrNotExist) {
		return segment{judged: true}, nil
	}
	s.persisted = true
	for _, name := range segmentFiles {
		info, err := j.root.Lstat(j.id + "/" + name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			j.report.fail(CodeSegmentMissing, "segment %s: %s is missing", j.id, name)
			return s, nil
		case err != nil:
			return s, err
		case !info.Mode().IsRegular():
			j.corrupt("%s is not a regular file", name)
			return s, nil
		}
	}
	labels, err := j.readPickle(ctx, &s)
	if err != nil || !s.judged || len(s.ids) == 0 {
		return s, err // Chroma starts a segment without ids anew
	}
	err = j.judgeGraph(ctx, labels)
	return s, err
}

// labels is what the pickle says about labels.
type labels struct {
	added  int64 // labels given so far, deleted ones included
	toName *dict // label_to_id
}

// readPickle reads index_metadata.pickle into s.
func (j *segmentJudge) readPickle(ctx context.Context, s *segment) (labels, error) {
	text, err := j.readAll(pickleName, maxPickleBytes)
	if err != nil {
		return labels{}, err
	}
	d, err := unpickle(ctx, text)
	if ctx.Err() != nil {
		return labels{}, ctx.Err()
	}
	if err != nil {
		j.corrupt("%s: %v", pickleName, err)
		return labels{}, nil
	}
	forward, back, added := d.get("id_to_label"), d.get("label_to_id"), d.get("total_elements_added")
	if forward.kind != dictValue || back.kind != dictValue || added.kind != intValue {
		j.corrupt("%s lacks id_to_label, label_to_id or total_elements_added", pickleName)
		return labels{}, nil
	}
	ids := make(map[string]int64, len(forward.dict.pairs))
	for _, p := range forward.dict.pairs {
		if p.key.kind != stringValue || p.val.kind != intValue {
			j.corrupt("%s: id_to_label holds something else than names and numbers", pickleName)
			return labels{}, nil
		}
		ids[p.key.str] = p.val.num
	}
	if problem := notInverse(ids, forward.dict, back.dict); problem != "" {
		j.corrupt("%s: id_to_label and label_to_id differ: %s", pickleName, problem)
		return labels{}, nil
	}
	if seq := d.get("max_seq_id"); seq.kind == intValue && seq.num > 0 {
		s.maxSeq = seq.num
	}
	s.ids, s.judged = ids, true
	return labels{added: added.num, toName: back.dict}, nil
}

// notInverse says where label_to_id is not the inverse of id_to_label. Neither
// may name anything twice, so equal counts and one direction are enough.
func notInverse(ids map[string]int64, forward, back *dict) string {
	if len(forward.pairs) != len(ids) || len(back.pairs) != len(ids) {
		return fmt.Sprintf("%d, %d and %d entries", len(ids), len(forward.pairs), len(back.pairs))
	}
	seen := make(map[int64]struct{}, len(ids))
	for _, p := range back.pairs {
		if p.key.kind != intValue || p.val.kind != stringValue {
			return "something else than numbers and names"
		}
		if label, ok := ids[p.val.str]; !ok || label != p.key.num {
			return fmt.Sprintf("label %d", p.key.num)
		}
		seen[p.key.num] = struct{}{}
	}
	if len(seen) != len(ids) {
		return "a label for two records"
	}
	return ""
}

// judgeGraph holds the four .bin files against each other and the pickle.
func (j *segmentJudge) judgeGraph(ctx context.Context, l labels) error {
	text, err := j.readAll(headerName, headerBytes)
	if err != nil {
		return err
	}
	h, err := parseHeader([]byte(text), uint64(j.dimension))
	if errors.Is(err, errNewerFormat) {
		j.newer = true
		j.report.warn(CodeUnrecognised, "segment %s: %s: %v", j.id, headerName, err)
		return nil
	}
	if err != nil {
		j.corrupt("%s: %v", headerName, err)
		return nil
	}
	if l.added < 0 || uint64(l.added) != h.count {
		j.corrupt("%s counts %d elements, %s %d", headerName, h.count, pickleName, l.added)
		return nil
	}
	if size, err := j.size(lengthName); err != nil {
		return err
	} else if size%4 != 0 || size/4 < h.count {
		j.corrupt("%s has %d bytes for %d elements", lengthName, size, h.count)
	}
	// From here on the count may size what is allocated: a file has as much.
	if size, err := j.size(level0Name); err != nil {
		return err
	} else if size%h.elementSize != 0 || size/h.elementSize < h.count {
		j.corrupt("%s has %d bytes for %d elements of %d", level0Name, size, h.count, h.elementSize)
		return nil
	}
	alive := newBitset(h.count)
	for _, p := range l.toName.pairs {
		if p.key.num < 1 || uint64(p.key.num) > h.count {
			j.corrupt("%s: label %d of %d", pickleName, p.key.num, h.count)
			return nil
		}
		alive.add(uint64(p.key.num))
	}
	err = j.stream(level0Name, func(r io.Reader) error { return checkLevel0(ctx, r, h, alive, j.corrupt) })
	if err != nil {
		return err
	}
	return j.stream(linksName, func(r io.Reader) error { return checkLinks(ctx, r, h, j.corrupt) })
}

// stream returns a file to check, and turns an early end into a finding.
func (j *segmentJudge) stream(name string, check func(io.Reader) error) error {
	f, err := openRegular(j.root, j.id+"/"+name)
	if err != nil {
		return err
	}
	defer f.Close()
	err = check(f)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		j.corrupt("%s ends early", name)
		return nil
	case errors.Is(err, errMany):
		return nil
	}
	return err
}

func (j *segmentJudge) size(name string) (uint64, error) {
	info, err := j.root.Lstat(j.id + "/" + name)
	if err != nil {
		return 0, err
	}
	return uint64(info.Size()), nil
}

// readAll reads a small file; of one that is longer than limit it returns one
// byte more than that, which its parser refuses.
func (j *segmentJudge) readAll(name string, limit int64) (string, error) {
	f, err := openRegular(j.root, j.id+"/"+name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var text strings.Builder
	_, err = io.Copy(&text, io.LimitReader(f, limit+1))
	return text.String(), err
}

// openRegular opens a regular file below root for reading. It neither waits for
// the other end of a FIFO nor goes through a symbolic link at the end of name.
func openRegular(root *os.Root, name string) (*os.File, error) {
	before, err := root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w by something that is no regular file", name, errMoved)
	}
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	// os.Root follows links that stay inside, so the name may have changed.
	if info, err := f.Stat(); err != nil || !os.SameFile(before, info) {
		f.Close()
		return nil, errors.Join(err, fmt.Errorf("%s: %w while it was opened", name, errMoved))
	}
	return f, nil
}
