package web

import (
	"net/http"
	"slices"
	"time"

	"github.com/atocore/atobackupd/retention"
	"github.com/atocore/atobackupd/snapshot"
)

// shownFiles bounds the list of files: a vector store may hold many thousands.
const shownFiles = 400

// snapshotView is the page of one snapshot. One that only targets hold has no
// Local.
type snapshotView struct {
	frame
	Stamp     snapshot.Stamp
	At        time.Time
	Local     *snapshot.Snapshot
	Validity  string
	Size      string
	Exclusive string // "" where it shares nothing
	Took      string
	Artifacts []artifactView
	Tables    []tableView
	Files     []snapshot.File
	FileCount int
	Verdict   *retention.Verdict
	Check     string
	Offsite   []placeView
	Here      []step
	Elsewhere []step // to lay it out without touching what is live
}

type artifactView struct {
	Name string
	snapshot.Artifact
}

type tableView struct {
	Name string
	Rows int64
}

// placeView is one target that holds the snapshot, and how to get it from there.
type placeView struct {
	Target
	Steps []step
	There []step // on the machine that the vault lies on
}

// snapshotPage is GET /snapshots/{stamp}.
func (s *Server) snapshotPage(w http.ResponseWriter, r *http.Request) error {
	stamp, err := snapshot.ParseStamp(r.PathValue("stamp"))
	if err != nil {
		return refuse(http.StatusBadRequest, "%s", err.Error())
	}
	state, err := s.look(r.Context())
	if err != nil {
		return err
	}
	view := newSnapshotView(state, stamp)
	if view == nil {
		return refuse(http.StatusNotFound, "there is no snapshot %s, here or off-site", stamp)
	}
	return s.page(w, http.StatusOK, "snapshot", view)
}

func newSnapshotView(state *State, stamp snapshot.Stamp) *snapshotView {
	v := &snapshotView{frame: newFrame(state, "Snapshot "+string(stamp)), Stamp: stamp, At: stamp.Time()}
	for _, t := range state.Targets {
		if slices.Contains(t.Stamps, stamp) {
			v.Offsite = append(v.Offsite, newPlace(t, stamp, state.Commands))
		}
	}
	for i := range state.Snapshots {
		if state.Snapshots[i].Stamp == stamp {
			v.local(&state.Snapshots[i], state)
		}
	}
	if v.Local == nil && len(v.Offsite) == 0 {
		return nil
	}
	return v
}

func (v *snapshotView) local(s *snapshot.Snapshot, state *State) {
	c := state.Commands
	v.Local, v.Validity, v.Size = s, validity(*s), size(s.Bytes)
	if s.BytesExclusive < s.Bytes {
		v.Exclusive = size(s.BytesExclusive)
	}
	v.Check = c.command("validate", string(s.Stamp))
	v.Here = c.restoreHere(s.Stamp)
	v.Elsewhere = []step{{"Lay it out in a new directory; nothing live is touched",
		c.command("restore", string(s.Stamp), "--to", "/tmp/atocore-"+string(s.Stamp))}}
	for i := range state.Decision.Verdicts {
		if state.Decision.Verdicts[i].Stamp == string(s.Stamp) {
			v.Verdict = &state.Decision.Verdicts[i]
		}
	}
	if m := s.Manifest; m != nil {
		v.manifest(m)
	}
}

func (v *snapshotView) manifest(m *snapshot.Manifest) {
	v.Took = span(m.FinishedAt.Sub(m.StartedAt))
	for _, name := range []string{snapshot.DB, snapshot.Registry, snapshot.Chroma} {
		if a, ok := m.Artifacts[name]; ok {
			v.Artifacts = append(v.Artifacts, artifactView{name, a})
		}
	}
	if m.DB != nil {
		for name, rows := range m.DB.Tables {
			v.Tables = append(v.Tables, tableView{name, rows})
		}
		slices.SortFunc(v.Tables, func(a, b tableView) int {
			if a.Name < b.Name {
				return -1
			}
			return 1
		})
	}
	for _, f := range m.Files {
		if f.Type != snapshot.TypeDir {
			v.FileCount++
			if len(v.Files) < shownFiles {
				v.Files = append(v.Files, f)
			}
		}
	}
}

func newPlace(t Target, stamp snapshot.Stamp, c Commands) placeView {
	to := "/tmp/atocore-" + string(stamp)
	return placeView{
		Target: t,
		Steps:  c.restoreFrom(t.Name, stamp),
		There: []step{
			{"With atobackupd, on the machine that holds the vault",
				"atobackupd vault restore " + string(stamp) + " --dir VAULT --identity IDENTITY --to " + to},
			{"Without it, from inside the vault",
				"python3 -I recover.py " + string(stamp) + " --identity IDENTITY --to " + to},
		},
	}
}
