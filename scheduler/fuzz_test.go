package scheduler

import (
	"testing"
	"time"
)

// FuzzParse: an expression is refused, or names moments that come one after the other
// and says itself again.
func FuzzParse(f *testing.F) {
	for _, expr := range []string{"", "0 6 * * *", "@daily", "@every 90m", "@every -1s", "TZ=", "CRON_TZ=UTC 0 6 * * *",
		"0 2 30 2 *", "*/7 1-5,8 29 2 7", "? ? ? ? ?", "0 0 31 */2 1#2", "@reboot", "99999999999 * * * *", "0 6 * * SUN-MON"} {
		f.Add(expr, int64(1774746000))
	}
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, expr string, unix int64) {
		c, err := Parse(expr, zone)
		if err != nil || c == nil {
			return
		}
		at := time.Unix(unix%(1<<32), 0)
		first := c.Next(at)
		second := c.Next(first)
		if !first.After(at) || !second.After(first) {
			t.Errorf("%q after %v: %v, %v", expr, at, first, second)
		}
		again, err := Parse(c.String(), zone)
		if err != nil || !again.Next(at).Equal(first) {
			t.Errorf("%q says itself as %q: %v", expr, c, err)
		}
	})
}
