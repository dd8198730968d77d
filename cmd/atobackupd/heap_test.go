package main

import "testing"

func TestGarbagePercent(t *testing.T) {
	for _, c := range []struct {
		live, floor int64
		want        int
	}{
		{0, 28 << 20, mostGarbage}, {1 << 20, 28 << 20, mostGarbage}, {14 << 20, 28 << 20, 100},
		{20 << 20, 28 << 20, 40}, {28 << 20, 28 << 20, leastGarbage}, {1 << 30, 28 << 20, leastGarbage},
	} {
		if got := garbagePercent(c.live, c.floor); got != c.want {
			t.Errorf("garbagePercent(%d, %d) = %d, want %d", c.live, c.floor, got, c.want)
		}
	}
}
