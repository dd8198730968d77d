package sftp

import (
	"testing"
	"time"
)

// TestBytesAhead: a far line is kept full, and a near one leaves no queue in the
// server.
func TestBytesAhead(t *testing.T) {
	for _, c := range []struct {
		roundTrip time.Duration
		want      int
	}{
		{0, leastAhead}, {200 * time.Microsecond, leastAhead}, {5 * time.Millisecond, 1 << 20},
		{10 * time.Millisecond, mostAhead}, {time.Second, mostAhead},
	} {
		if got := bytesAhead(c.roundTrip); got != c.want {
			t.Errorf("bytesAhead(%v) = %d, want %d", c.roundTrip, got, c.want)
		}
	}
}

// TestRoundTrip: a server that had something else to do first does not make the
// line longer.
func TestRoundTrip(t *testing.T) {
	r := &Remote{common: &common{}}
	for _, took := range []time.Duration{3, 9, 2, 5} {
		r.noteRoundTrip(took * time.Millisecond)
	}
	if got := time.Duration(r.roundTrip.Load()); got != 2*time.Millisecond {
		t.Errorf("the round trip is %v, want 2ms", got)
	}
}
