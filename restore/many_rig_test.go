//go:build rig

package restore

import "testing"

func TestHundredThousandFiles(t *testing.T) { restoreMany(t, 100_000) }
