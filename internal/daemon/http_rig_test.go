//go:build rig

package daemon

import (
	"os/exec"
	"strings"
	"testing"
)

// runbook is what AtoCore's operators type, with only the port changed.
const runbook = `set -euo pipefail
curl -fsS -X POST $URL/admin/backup -H "Content-Type: application/json" -d '{"include_chroma": false}' >/dev/null
curl -fsS -X POST $URL/admin/backup -H "Content-Type: application/json" -d '{}' >/dev/null
STAMP=$(curl -fsS -X POST $URL/admin/backup \
    -H 'Content-Type: application/json' \
    -d '{"include_chroma": false}' | jq -r '.backup_root' | awk -F/ '{print $NF}')
curl -fsS $URL/admin/backup | jq '.backups[].stamp' | tee /dev/stderr | grep -c . | grep -qx 3
LATEST=$(curl -fsS $URL/admin/backup | jq -r '.backups[-1].stamp')
[ "$LATEST" = "$STAMP" ]
curl -fsS $URL/admin/backup/$LATEST/validate | jq -e '.valid and (.errors == [])'
curl -fsS $URL/admin/backup/$STAMP/validate | jq .
! curl -fsS $URL/admin/backup/20200101T000000Z/validate
curl -fsS -X POST $URL/admin/backup -H "Content-Type: application/json" | jq -er .backup_root
`

// TestRigRunbook runs the lines of AtoCore's backup procedure with the programs
// that they name.
func TestRigRunbook(t *testing.T) {
	for _, program := range []string{"curl", "jq"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("this test needs %s: apt-get install %s", program, program)
		}
	}
	_, address := startServing(t)
	out, err := exec.CommandContext(t.Context(), "bash", "-c", strings.ReplaceAll(runbook, "$URL",
		address)).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}
