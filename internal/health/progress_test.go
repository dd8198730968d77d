package health

import (
	"testing"
	"time"
)

func TestProgress(t *testing.T) {
	begun := time.Date(2026, 4, 7, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		done, total int64
		took        time.Duration
		want        string
	}{
		{0, 0, time.Minute, "copying"},
		{0, 10, time.Minute, "copying, 0 %"},
		{5 << 20, 10 << 20, time.Second, "copying, 50 %"},
		{5 << 20, 10 << 20, 10 * time.Second, "copying, 50 % at 0.5 MiB/s, 10 s left"},
		{10 << 30, 100 << 30, 100 * time.Second, "copying, 10 % at 102.4 MiB/s, 15 min left"},
		{1 << 20, 1 << 30, 100 * time.Second, "copying, 0 % at 0.0 MiB/s, 28 h left"},
		{11, 10, time.Second, "copying, 100 %"}, // the file grew
		{12 << 20, 10 << 20, 3 * time.Second, "copying, 100 % at 4.0 MiB/s, 0 s left"},
	} {
		p := Progress{Step: "copying", Done: test.done, Total: test.total, Since: begun, At: begun.Add(test.took)}
		if got := p.String(); got != test.want {
			t.Errorf("%d of %d in %s: %q, want %q", test.done, test.total, test.took, got, test.want)
		}
	}
}
