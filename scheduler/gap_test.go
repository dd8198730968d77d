package scheduler

import (
	"testing"
	"time"
)

func TestLongestGap(t *testing.T) {
	const day = 24 * time.Hour
	tests := []struct {
		exprs []string
		want  time.Duration
	}{
		{nil, 0},
		{[]string{""}, 0},
		{[]string{"0 6 * * *"}, day},
		{[]string{"0 6 * * MON-FRI"}, 3 * day},
		{[]string{"0 6 * * MON-SAT", "0 5 * * SUN"}, 25 * time.Hour},
		{[]string{"0 5 * * 0"}, 7 * day},
		{[]string{"0 5 * * 0", "0 4 1 * *"}, 7 * day},
		{[]string{"0 7 1 1,4,7,10 *"}, 92 * day},
		{[]string{"0 0 29 2 *"}, (3*365 + 366) * day},
		{[]string{"0 0 1 1 *"}, 366 * day},
		{[]string{"@every 36h"}, 36 * time.Hour},
		{[]string{"@every 36h", "0 6 * * *"}, day},
		{[]string{"@every 2400h"}, 2400 * time.Hour},
		{[]string{"* * * * *"}, time.Minute},
		{[]string{"*/15 8-17 * * 1-5"}, 3*day - 9*time.Hour - 45*time.Minute},
	}
	for _, test := range tests {
		var crons []*Cron
		for _, expr := range test.exprs {
			c, err := Parse(expr, time.UTC)
			if err != nil {
				t.Fatal(err)
			}
			crons = append(crons, c)
		}
		if got := LongestGap(crons...); got != test.want {
			t.Errorf("%q: %v, want %v", test.exprs, got, test.want)
		}
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse("0 6 * * *", berlin)
	if err != nil {
		t.Fatal(err)
	}
	if got := LongestGap(c); got != 25*time.Hour {
		t.Errorf("daily in Berlin: %v, want the long day of autumn", got)
	}
}
