package provetest

import "testing"

// TestPoints is what the test of cmd/prove runs and counts.
func TestPoints(t *testing.T) {
	Points(t, 5)
	t.Run("more", func(t *testing.T) { Points(t, 7) })
}

func TestRounds(t *testing.T) {
	if n := Rounds(t, 3); n != 3 {
		t.Errorf("%d rounds", n)
	}
	t.Setenv("ATOBACKUPD_ROUNDS", "40")
	if n := Rounds(t, 3); n != 40 {
		t.Errorf("%d rounds", n)
	}
}
