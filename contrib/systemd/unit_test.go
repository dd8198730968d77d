// Package systemd_test checks the units that are shipped here.
package systemd_test

import (
	"os/exec"
	"strings"
	"testing"
)

// The sandbox is worth what systemd-analyze says: 1.5 or better, and no line
// that systemd ignores because it does not understand it.
func TestExposure(t *testing.T) {
	for unit, most := range map[string]string{"atobackupd.service": "15", "atobackupd-restore@.service": "30"} {
		out, err := exec.Command("systemd-analyze", "security", "--offline=yes", "--threshold="+most,
			unit).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v (systemd-analyze is in Debian's systemd):\n%s", unit, err, out)
		}
		for line := range strings.SplitSeq(string(out), "\n") {
			if strings.Contains(line, "ignoring") {
				t.Error(line)
			}
		}
	}
}
