//go:build rig

package restore

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// The roles of a power-cut sweep, in which every process sees the disk under
// test at the same path: "template" makes the scene once and prints its stamp,
// "run" restores it, and "judge" ends what was cut off and looks at the result.
func init() {
	roles["template"], roles["judge"] = templateMain, judgeMain
}

type judgeInput struct {
	childInput
	Template string // where the scene and the prints of both states are kept
	Then     string // "resume" or "abort"
}

func templateMain(input []byte) error {
	var in judgeInput
	if err := json.Unmarshal(input, &in); err != nil {
		return err
	}
	s, err := makeScene(in.Base)
	if err != nil {
		return err
	}
	if err := copyTree(in.Base, filepath.Join(in.Template, "base")); err != nil {
		return err
	}
	data, err := json.Marshal(childInput{Base: s.base, Stamp: s.stamp})
	if err != nil {
		return err
	}
	for _, state := range []string{"old", "new"} {
		p, err := s.print()
		if err == nil {
			err = os.WriteFile(filepath.Join(in.Template, state), []byte(p), 0o600)
		}
		if err == nil && state == "old" {
			err = childRun(data)
		}
		if err != nil {
			return err
		}
	}
	_, err = fmt.Println(s.stamp)
	return err
}

func judgeMain(input []byte) error {
	var in judgeInput
	if err := json.Unmarshal(input, &in); err != nil {
		return err
	}
	if !exists(filepath.Join(filepath.Dir(in.Base), "ready")) {
		return nil // cut while the scene was laid out
	}
	d := &driver{base: in.Base, stamp: in.Stamp}
	j, err := PendingJournal(filepath.Join(in.Base, "backups"))
	if err != nil {
		return err
	}
	want := map[string]string{"resume": "new", "abort": "old"}[in.Then]
	if j != nil {
		if err := d.end(in.Then); err != nil {
			return err
		}
		if j.Phase == PhaseCommitted {
			want = "new"
		}
	}
	for state, print := range map[string]*string{"old": &d.oldPrint, "new": &d.newPrint} {
		data, err := os.ReadFile(filepath.Join(in.Template, state))
		if err != nil {
			return err
		}
		*print = string(data)
	}
	end := d.verdict()
	if end == want || j == nil && (end == "old" || end == "new") {
		return nil
	}
	return fmt.Errorf("then %s: %s", in.Then, end)
}
