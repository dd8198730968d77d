package offsite

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/snapshot"
)

// Finding is an object of a vault that somebody found damaged or missing. It
// stays until a later check of the same object is clean, or until nothing needs
// the object any more because a push has mended what did.
type Finding struct {
	Object string           `json:"object"`           // its name from the vault's root
	What   string           `json:"what"`             // what is wrong with it
	Stamps []snapshot.Stamp `json:"stamps"`           // the snapshots that need it
	Gone   bool             `json:"gone,omitempty"`   // a whole push, with all its objects
	Listed bool             `json:"listed,omitempty"` // its name and size alone say so
	// Covered says that somebody hid the object or wrote over it, in vain: the
	// service still has it, and it is read as it was put.
	Covered bool      `json:"covered,omitempty"`
	Found   time.Time `json:"found"`
	By      string    `json:"by"` // verify, sync, restore, ls, dump, drill or report
}

// String names the object, what is wrong, and which snapshots need it.
func (f Finding) String() string {
	text := f.Object + ": " + f.What
	if len(f.Stamps) > 0 {
		var list []string
		for _, stamp := range f.Stamps {
			list = append(list, string(stamp))
		}
		if more := len(list) - 3; more > 0 {
			list = append(list[:3], fmt.Sprintf("%d more", more))
		}
		text += " (needed by " + strings.Join(list, ", ") + ")"
	}
	return text
}

// FindingOf turns an error of reading a push into a finding, where it is about an
// object of the vault.
func FindingOf(err error, s Stored) (Finding, bool) {
	var f *failure.Error
	if !errors.As(err, &f) || f.Kind != failure.Invalid {
		return Finding{}, false
	}
	_, isPack := packID(f.Subject)
	if !isPack && !strings.HasPrefix(f.Subject, snapshotsDir+"/") {
		return Finding{}, false
	}
	return Finding{Object: f.Subject, What: reason(err), Stamps: []snapshot.Stamp{s.Stamp}}, true
}

// Checks is what this machine has found out about the objects of a target's
// vault by looking at them. Losing it costs reading.
type Checks struct {
	// Read says of each object when it was last read and found sound, and how
	// many bytes it had: another size is damage that needs no reading.
	Read map[string]ReadRecord `json:"read"`

	// Findings are what is not known to be mended.
	Findings []Finding `json:"findings"`

	// Reports are those of reports/ that were taken up.
	Reports []string `json:"reports,omitempty"`

	path string
}

// ReadRecord is one clean reading of an object, or, while At is zero, the push
// that stored it.
type ReadRecord struct {
	At   time.Time `json:"at"`
	Size int64     `json:"size"`
}

// LoadChecks reads what is known of a target's vault; of a new one nothing is.
func LoadChecks(stateDir, target string) (*Checks, error) {
	c := &Checks{path: filepath.Join(StateDir(stateDir, target), "checks.json")}
	data, err := fsx.ReadRegular(c.path, mostState)
	if err == nil {
		err = json.Unmarshal(data, c)
	}
	if c.Read == nil {
		c.Read = make(map[string]ReadRecord)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, &failure.Error{Op: "target state", Subject: c.path, Err: err,
			Hint: "remove the file: the next verify reads everything anew"}
	}
	return c, nil
}

// Save writes the checks durably.
func (c *Checks) Save() error {
	data, err := json.MarshalIndent(c, "", " ")
	if err != nil {
		return err
	}
	if err := fsx.MkdirAll(filepath.Dir(c.path), 0o700); err != nil {
		return err
	}
	return fsx.WriteFile(c.path, append(data, '\n'), 0o600)
}

// size returns the size that an object must have, or 0 when it is unknown.
func (c *Checks) size(object string) int64 {
	if c == nil {
		return 0
	}
	return c.Read[object].Size
}

// RecordPush notes the sizes of the packs that a push needs.
func (c *Checks) RecordPush(p Pushed) {
	for id, size := range p.Sizes {
		name := packName(id)
		if c.Read[name].Size == 0 {
			c.Read[name] = ReadRecord{Size: size}
		}
	}
}

// Damaged returns the findings about bytes that are not sound: all but those about
// objects that somebody has covered in vain, which Uncover ends.
func (c *Checks) Damaged() []Finding {
	return slices.DeleteFunc(slices.Clone(c.Findings), func(f Finding) bool { return f.Covered })
}

// Clean notes that an object was read and is sound.
func (c *Checks) Clean(object string, size int64, at time.Time) {
	c.Read[object] = ReadRecord{At: at, Size: size}
	c.Findings = slices.DeleteFunc(c.Findings, func(f Finding) bool { return f.Object == object })
}

// Add notes findings: the newest words for an object replace older ones, and the
// time when it was first found stays.
func (c *Checks) Add(findings []Finding, by string, at time.Time) (news []Finding) {
	for _, f := range findings {
		f.By, f.Found = by, at
		i := slices.IndexFunc(c.Findings, func(old Finding) bool { return old.Object == f.Object })
		if i < 0 {
			c.Findings = append(c.Findings, f)
			news = append(news, f)
			continue
		}
		f.Found, f.By = c.Findings[i].Found, c.Findings[i].By
		c.Findings[i] = f
	}
	return news
}

// Settle forgets what the vault does not need any more, after a survey that came
// after the mending: findings about objects that no current push names, and
// records of objects that are not there. What a survey finds by itself (seen) is
// as the survey says.
func (c *Checks) Settle(s *Survey, seen []Finding) (mended []Finding) {
	needed := s.neededBy(s.Current)
	found := make(map[string]bool)
	for _, f := range seen {
		found[f.Object] = true
	}
	c.Findings = slices.DeleteFunc(c.Findings, func(f Finding) bool {
		_, isPush := strings.CutPrefix(f.Object, snapshotsDir+"/")
		_, isPack := packID(f.Object)
		stays := found[f.Object] || !isPush && !isPack && !f.Covered
		if f.Object == snapshotsDir && len(s.Current) > 0 || f.Object == packsDir && len(s.packs) > 0 {
			stays = false // the directory was missing, or held nothing yet
		}
		if _, still := needed[f.Object]; still {
			// Its name and its size say nothing against it now. Where that was all
			// that was wrong, it is back; else only reading it can clear it.
			_, there := s.size(f.Object)
			stays = stays || !(there && f.Listed)
		}
		if !stays {
			mended = append(mended, f)
		}
		return !stays
	})
	all := s.neededBy(append(slices.Clone(s.Current), s.Superseded...))
	for object := range c.Read {
		if _, ok := all[object]; !ok {
			delete(c.Read, object)
		}
	}
	return mended
}

// Oldest returns when the least recently read pack of a survey's current pushes
// was read; one that never was counts from its arrival. Without packs it is now.
func (c *Checks) Oldest(s *Survey, now time.Time) time.Time {
	oldest := now
	for name := range s.neededBy(s.Current) {
		id, isPack := packID(name)
		if !isPack {
			continue
		}
		read := c.Read[name].At
		if read.IsZero() {
			read = s.packs[id].MTime
		}
		if read.Before(oldest) {
			oldest = read
		}
	}
	return oldest
}
