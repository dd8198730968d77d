package offsite

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/retention"
	"github.com/atocore/atobackupd/snapshot"
)

// spool is what is kept of a push that is not complete, in <state>/spool/<STAMP>:
//
//	journal      what the push is about, and one line for each pack that arrived
//	records      the page records under construction, made anew by each attempt
//	sealed       once nothing but publishing is left: what the push was
//	manifest.age json SHA256SUMS sig map    then: the very bytes to be published
//
// The next attempt at the same snapshot goes on from it: the same bytes encrypt
// differently each time, so what did not arrive whole is worth nothing, and
// what did must not be sent again.
type spool struct {
	dir     string
	journal *os.File
	journalHeader
	fresh   bool         // there was no earlier attempt
	arrived []storedPack // by earlier attempts
}

const (
	spoolDir      = "spool"
	spoolJournal  = "journal"
	spoolRecords  = "records"
	spoolSealed   = "sealed"
	spoolManifest = "manifest.age"
	spoolInfo     = "json"
	spoolSums     = "SHA256SUMS"
	spoolSig      = "sig"
	spoolAge      = 14 * retention.Day // after which a forgotten one is removed
)

// journalHeader says what the packs of a journal are worth: they hold pages of
// these files, for these recipients.
type journalHeader struct {
	Push       PushID   `json:"push"`
	VaultID    string   `json:"vault_id"`
	Recipients string   `json:"recipients"`
	Files      string   `json:"files"` // a digest of the list
	Based      []PushID `json:"based"` // of each file, the base that patches are against; "" for none
}

// journalPack is a line of the journal.
type journalPack struct {
	packRef
	Layer   int        `json:"layer"`
	Extents [][3]int64 `json:"extents"` // file, page, pages
}

func spoolPath(stateDir string, stamp snapshot.Stamp) string {
	return filepath.Join(stateDir, spoolDir, string(stamp))
}

// InterruptedFirst puts the stamps whose push was begun and not completed before the
// others. Most of the work on them may be done; and a first push that a sleeping
// laptop cuts every day would never end if each day's newest snapshot began
// another one.
func InterruptedFirst(stateDir string, stamps []snapshot.Stamp) []snapshot.Stamp {
	begun := func(stamp snapshot.Stamp) int {
		if _, err := os.Stat(spoolPath(stateDir, stamp)); err == nil {
			return 0
		}
		return 1
	}
	sorted := slices.Clone(stamps)
	slices.SortStableFunc(sorted, func(a, b snapshot.Stamp) int { return begun(a) - begun(b) })
	return sorted
}

// openSpool opens the spool of a snapshot, with what an earlier attempt at the
// very same push has left; what belongs to another one is dropped.
func openSpool(stateDir string, stamp snapshot.Stamp, want journalHeader) (s *spool, err error) {
	s = &spool{dir: spoolPath(stateDir, stamp)}
	if err := fsx.MkdirAll(s.dir, 0o700); err != nil {
		return nil, err
	}
	if !s.load(want) {
		if err := s.reset(want); err != nil {
			return nil, err
		}
	}
	s.journal, err = os.OpenFile(filepath.Join(s.dir, spoolJournal), os.O_WRONLY|os.O_APPEND, 0o600)
	return s, err
}

// reset begins an empty spool for a new push.
func (s *spool) reset(want journalHeader) error {
	if err := fsx.RemoveAll(s.dir); err != nil {
		return err
	}
	if err := fsx.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	suffix, err := randomHex(3)
	if err != nil {
		return err
	}
	want.Push = PushID(filepath.Base(s.dir) + "-" + suffix)
	s.journalHeader, s.arrived, s.fresh = want, nil, true
	line, err := json.Marshal(want)
	if err != nil {
		return err
	}
	return fsx.WriteFile(filepath.Join(s.dir, spoolJournal), append(line, '\n'), 0o600)
}

// load reads the journal of an earlier attempt. A last line that was cut by a
// crash is passed over; the pack that it names is not used.
func (s *spool) load(want journalHeader) bool {
	f, err := fsx.OpenRegular(filepath.Join(s.dir, spoolJournal), os.O_RDWR)
	if err != nil {
		return false
	}
	defer f.Close()
	lines := bufio.NewReader(f)
	line, err := lines.ReadBytes('\n')
	if err != nil || json.Unmarshal(line, &s.journalHeader) != nil {
		return false
	}
	if _, ok := s.Push.Stamp(); !ok || s.VaultID != want.VaultID || s.Recipients != want.Recipients ||
		s.Files != want.Files ||
		len(s.Based) != len(want.Based) {
		return false
	}
	whole := int64(len(line))
	for {
		line, err := lines.ReadBytes('\n')
		var p journalPack
		if err != nil || json.Unmarshal(line, &p) != nil || !packPattern.MatchString(p.ID) {
			// What is appended next must begin on a line of its own.
			return f.Truncate(whole) == nil
		}
		whole += int64(len(line))
		s.arrived = append(s.arrived, p.stored(s.Based, want.Based))
	}
}

// stored takes a line of the journal. Patches against a base that is not the
// file's base any more are not taken.
func (p *journalPack) stored(then, now []PushID) storedPack {
	stored := storedPack{packRef: p.packRef, layer: p.Layer}
	packPage := int64(0)
	for _, e := range p.Extents {
		file, at := int(e[0]), packPage
		packPage += e[2]
		if file < 0 || file >= len(now) || (p.Layer == patchLayer && then[file] != now[file]) {
			continue
		}
		stored.extents = append(stored.extents, extent{file, e[1], e[2], at})
	}
	return stored
}

// record notes a pack that is durable on the remote. It is not synced: a line
// that a power cut takes costs one pack.
func (s *spool) record(p storedPack) error {
	line := journalPack{packRef: p.packRef, Layer: p.layer}
	for _, e := range p.extents {
		line.Extents = append(line.Extents, [3]int64{int64(e.file), e.page, e.pages})
	}
	data, err := json.Marshal(line)
	if err != nil {
		return err
	}
	_, err = s.journal.Write(append(data, '\n'))
	return err
}

// nextPack returns the number of the next pack: one that no earlier attempt has
// used, not even one whose answer was lost. Numbers are given in order, and
// only so many packs are under way at once.
func (s *spool) nextPack(have map[string]int64) int {
	highest := -1
	consider := func(id string) {
		number, ok := strings.CutPrefix(id, string(s.Push)+"-")
		if n, err := strconv.Atoi(number); ok && err == nil {
			highest = max(highest, n)
		}
	}
	for _, p := range s.arrived {
		consider(p.ID)
	}
	for id := range have {
		consider(id)
	}
	if highest < 0 && s.fresh {
		return 0
	}
	return highest + 1 + packsUnderWay
}

func (s *spool) path(name string) string { return filepath.Join(s.dir, name) }

// sealed is a push of which nothing but publishing is left.
type sealed struct {
	Pushed Pushed `json:"pushed"`
	Seq    int64  `json:"seq"`
	journalHeader
	Follows  PushID    `json:"follows"` // the push that wrote the map it was made from
	Packs    []packRef `json:"packs"`
	Warnings []string  `json:"warnings"`
	Damage   []string  `json:"damage"`
}

// seal makes the spool a push that is only to be published.
func (s *spool) seal(done sealed) error {
	data, err := json.Marshal(done)
	if err != nil {
		return err
	}
	return fsx.WriteFile(s.path(spoolSealed), data, 0o600)
}

// loadSealed returns what seal has written, if it is about the same snapshot.
func loadSealed(stateDir string, stamp snapshot.Stamp, want journalHeader) (*sealed, bool) {
	data, err := fsx.ReadRegular(filepath.Join(spoolPath(stateDir, stamp), spoolSealed), mostState)
	var done sealed
	if err != nil || json.Unmarshal(data, &done) != nil || done.VaultID != want.VaultID || done.Files != want.Files ||
		done.Recipients != want.Recipients {
		return nil, false
	}
	for _, name := range []string{spoolManifest, spoolInfo, spoolSums, spoolSig, mapName} {
		info, err := os.Lstat(filepath.Join(spoolPath(stateDir, stamp), name))
		if err != nil || !info.Mode().IsRegular() {
			return nil, false
		}
	}
	return &done, true
}

// close keeps what has arrived for the next attempt.
func (s *spool) close() {
	if s.journal != nil {
		s.journal.Close()
	}
	os.Remove(s.path(spoolRecords))
}

// dropSpool forgets a push, and those of others that nobody finished.
func dropSpool(stateDir string, stamp snapshot.Stamp, now time.Time) error {
	err := fsx.RemoveAll(spoolPath(stateDir, stamp))
	entries, listErr := os.ReadDir(filepath.Join(stateDir, spoolDir))
	if listErr != nil && !errors.Is(listErr, fs.ErrNotExist) {
		err = errors.Join(err, listErr)
	}
	for _, e := range entries {
		if info, statErr := e.Info(); statErr == nil && now.Sub(info.ModTime()) > spoolAge {
			err = errors.Join(err, fsx.RemoveAll(filepath.Join(stateDir, spoolDir, e.Name())))
		}
	}
	return err
}

// digestFiles names a list of files and what is in them.
func digestFiles(files []FileEntry) string {
	hash := sha256.New()
	for i := range files {
		fmt.Fprintf(hash, "%q %s %d %s\n", files[i].Path, files[i].Type, files[i].Size, files[i].SHA256)
	}
	return hex.EncodeToString(hash.Sum(nil))
}
