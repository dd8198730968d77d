//go:build rig

package restore

import "testing"

func TestRigHundredThousandFiles(t *testing.T) { restoreMany(t, 100_000) }
