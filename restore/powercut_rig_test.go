//go:build rig

package restore

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/atocore/atobackupd/internal/forktest"
	"github.com/atocore/atobackupd/internal/provetest"
)

// The roles of a power-cut sweep, in which every process sees the disk under
// test at the same path: "template" makes the scene once and prints its stamp,
// "run" restores it, and "judge" ends what was cut off and looks at the result.
func init() {
	roles["template"], roles["judge"] = templateMain, judgeMain
}

// TestRigPowerCut restores on ext4 and cuts it off before every file-changing
// call, or every ATOBACKUPD_SWEEP_STEP-th: once by killing the process, once by
// cutting the power, and then resumes it, and in a second sweep aborts it. It
// needs root, and the scripts in the shared folder that ATOBACKUPD_SHARED names.
func TestRigPowerCut(t *testing.T) {
	step := sweepStep(t)
	shared := os.Getenv("ATOBACKUPD_SHARED")
	if shared == "" {
		shared = "../../shared"
	}
	rig, err := filepath.Abs(filepath.Join(shared, "rig"))
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	room := t.TempDir()
	for name, script := range map[string]string{
		"sweep":  sweepScript,
		"inside": insideScript,
		"run":    runScript,
		"check":  checkScript,
	} {
		if err := os.WriteFile(filepath.Join(room, name), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.Command("bash", filepath.Join(room, "sweep"))
	c.Env = append(
		os.Environ(),
		"RIG="+rig,
		"ROOM="+room,
		"SELF="+self,
		"STEP="+strconv.Itoa(step),
		"GOMAXPROCS=1",
		"GOGC=off",
	)
	// Mounts and processes end with the namespaces, and those with this process:
	// nothing is left behind however the sweep ends.
	forktest.OwnProcesses(c)
	c.SysProcAttr.Pdeathsig = syscall.SIGKILL
	out, err := c.CombinedOutput()
	t.Logf("every %d. call:\n%s", step, out)
	if err != nil {
		t.Errorf("%v", err)
	}
	judgeSweep(t, filepath.Join(room, "outcomes"), step)
}

// sweepStep is 1 for every call. The default keeps it under three minutes.
func sweepStep(t *testing.T) int {
	text := os.Getenv("ATOBACKUPD_SWEEP_STEP")
	if text == "" {
		return 2
	}
	step, err := strconv.Atoi(text)
	if err != nil || step < 1 {
		t.Fatalf("ATOBACKUPD_SWEEP_STEP is %q, not a number from 1", text)
	}
	return step
}

// judgeSweep counts what became of the points.
func judgeSweep(t *testing.T, path string, step int) {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for line := range strings.SplitSeq(strings.TrimSpace(string(data)), "\n") {
		fields := strings.Split(line, "\t") // then, how, end
		if len(fields) != 3 {
			t.Fatalf("the judge wrote %q", line)
		}
		row := fields[0] + "\t" + fields[1]
		count[row]++
		count[row+"\t"+fields[2]]++
	}
	var table strings.Builder
	fmt.Fprintf(
		&table,
		"\n%-8s %-10s %7s %10s %5s %5s %5s\n",
		"then",
		"cut off by",
		"points",
		"not begun",
		"old",
		"new",
		"bad",
	)
	for _, then := range []string{"resume", "abort"} {
		for _, how := range []string{"kill", "power cut"} {
			row := then + "\t" + how
			all, none, before, after := count[row], count[row+"\tnot begun"], count[row+"\told"], count[row+"\tnew"]
			bad := all - none - before - after
			fmt.Fprintf(&table, "%-8s %-10s %7d %10d %5d %5d %5d\n", then, how, all, none, before, after, bad)
			if bad > 0 {
				t.Errorf("cut off by %s, then %s: %d bad", how, then, bad)
			}
			provetest.Points(t, all)
			// A restore that is resumed is old only when it had not begun.
			if all < 100/step || none*step > 6+step || after == 0 || before == 0 && then == "abort" {
				t.Errorf("cut off by %s, then %s: too little was tested", how, then)
			}
		}
	}
	t.Log(table.String())
}

// sweepScript makes the disk and the scene, and sweeps twice. A new process
// that needs the scene finds it laid out in fs/next, so that laying it out is
// one call of the sweep and not a hundred.
const sweepScript = `set -euo pipefail
mount --make-rprivate /
mount -t proc proc /proc
export HERE=$ROOM/here TEMPLATE=$ROOM/template OUTCOMES=$ROOM/outcomes
mkdir "$HERE" "$TEMPLATE"
"$RIG/powercut-up.sh" ext4 64M "$ROOM/disk"
mkdir "$ROOM/disk/fs/t"
cd "$ROOM/disk/fs/t"
stamp=$(FORKTEST_ROLE=template FORKTEST_INPUT="{\"Base\":\"$HERE/base\",\"Template\":\"$TEMPLATE\"}" sh "$ROOM/inside")
cd /
cp -a "$TEMPLATE/base" "$ROOM/disk/fs/next"
rc=0
for THEN in resume abort; do
	export THEN INPUT="{\"Base\":\"$HERE/base\",\"Stamp\":\"$stamp\",\"Template\":\"$TEMPLATE\",\"Then\":\"$THEN\"}"
	echo "then $THEN:"
	"$RIG/crash-sweep.sh" "$ROOM/disk" "sh $ROOM/run" "sh $ROOM/check" "$STEP" || rc=1
done
"$RIG/powercut-down.sh" "$ROOM/disk"
exit $rc
`

// insideScript runs the test binary where the current directory is $HERE.
const insideScript = `exec unshare --mount sh -c 'mount --bind . "$HERE" && exec "$SELF"'
`

const runScript = `mv ../next base && sync -f base && echo ready || exit
FORKTEST_ROLE=run FORKTEST_INPUT=$INPUT exec sh "$ROOM/inside"
`

// checkScript lays out the next scene, and judges this one.
const checkScript = `HOW="power cut"
case $PWD in */fs/t)
	HOW=kill
	[ -e ../next ] || { cp -a "$TEMPLATE/base" ../next && sync -f .. || exit; } ;;
esac
export HOW
FORKTEST_ROLE=judge FORKTEST_INPUT=$INPUT exec sh "$ROOM/inside"
`

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

// judgeMain notes what became of a point, and fails when it is not well.
func judgeMain(input []byte) error {
	var in judgeInput
	if err := json.Unmarshal(input, &in); err != nil {
		return err
	}
	end, err := in.judge()
	if err != nil {
		end = "bad"
	}
	outcomes, openErr := os.OpenFile(os.Getenv("OUTCOMES"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if openErr != nil {
		return openErr
	}
	_, writeErr := fmt.Fprintf(outcomes, "%s\t%s\t%s\n", in.Then, os.Getenv("HOW"), end)
	return errors.Join(err, writeErr, outcomes.Close())
}

func (in judgeInput) judge() (end string, err error) {
	out, err := os.ReadFile(os.Getenv("RIG_OUT"))
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(string(out), "ready\n") {
		return "not begun", nil // cut off while the scene was laid out
	}
	j, err := pendingIn(filepath.Join(in.Base, "backups"))
	if err != nil {
		return "", err
	}
	d := &driver{base: in.Base, stamp: in.Stamp}
	for state, print := range map[string]*string{"old": &d.oldPrint, "new": &d.newPrint} {
		data, err := os.ReadFile(filepath.Join(in.Template, state))
		if err != nil {
			return "", err
		}
		*print = string(data)
	}
	want := "either"
	if j != nil {
		want = expected(trial{Then: in.Then, Phase: j.Phase})
		if err := d.end(in.Then); err != nil {
			return "", err
		}
	}
	end = d.verdict()
	if end == want || want == "either" && (end == "old" || end == "new") {
		return end, nil
	}
	phase := Phase("none")
	if j != nil {
		phase = j.Phase
	}
	return "", fmt.Errorf("journal %s, then %s: %s", phase, in.Then, strings.ReplaceAll(end, "\n", " | "))
}
