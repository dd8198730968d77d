package provetest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// clockEnv is by how many seconds time.Now is ahead in a binary built with
// ClockOverlay, and in what it starts of such binaries.
const clockEnv = "ATOBACKUPD_CLOCK_AHEAD"

// ClockOverlay returns the file for go build's -overlay with which time.Now is ahead
// by what SetClock says. Sleeps, deadlines and durations stay those of the machine,
// so that a year can go by between two real pushes to a real server: package
// testing/synctest has no time pass while a connection is open.
func ClockOverlay(t testing.TB) string {
	t.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	src := filepath.Join(strings.TrimSpace(string(root)), "src/time")
	text, err := os.ReadFile(filepath.Join(src, "time.go"))
	if err != nil {
		t.Fatal(err)
	}
	const reading = "\tsec, nsec, mono := runtimeNow()\n"
	if strings.Count(string(text), reading) != 1 {
		t.Fatalf("time.Now of %s is not as this test knows it", root)
	}
	dir := t.TempDir()
	replace := map[string]string{}
	for name, text := range map[string]string{
		"time.go": strings.Replace(string(text), reading, reading+"\tsec += clockAhead()\n", 1),
		"clock.go": `package time

import "syscall"

func clockAhead() (seconds int64) {
	text, _ := syscall.Getenv("` + clockEnv + `")
	for _, digit := range []byte(text) {
		seconds = seconds*10 + int64(digit-'0')
	}
	return seconds
}
`} {
		replace[filepath.Join(src, name)] = filepath.Join(dir, name)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	data, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// SetClock has time.Now return now from here on. It fails the test in a binary that
// was not built with ClockOverlay, or when now is in the past.
func SetClock(t testing.TB, now time.Time) {
	t.Helper()
	seconds, _ := strconv.Atoi(os.Getenv(clockEnv)) // 0 where it is not set
	ahead := time.Duration(seconds)*time.Second + time.Until(now.Round(0)).Round(time.Second)
	if ahead < 0 {
		t.Fatalf("%s is in the past", now)
	}
	if err := os.Setenv(clockEnv, strconv.FormatInt(int64(ahead/time.Second), 10)); err != nil {
		t.Fatal(err)
	}
	if off := time.Until(now.Round(0)).Abs(); off > time.Minute {
		t.Fatalf("the clock is %s off: this binary was not built with ClockOverlay", off)
	}
}
