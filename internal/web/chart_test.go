package web

import (
	"math"
	"testing"
	"time"
)

// TestChartsStayInTheirFrame draws all kinds of values and looks where the
// points lie: inside the axes, in the order of time, higher for more.
func TestChartsStayInTheirFrame(t *testing.T) {
	values := map[string][]float64{
		"one": {5}, "zeros": {0, 0, 0}, "equal": {7, 7, 7}, "tiny": {0.001, 0.002}, "huge": {1 << 50, 3},
		"growing": {1, 2, 3, 500, 70000}, "orders": {1 << 10, 1 << 20, 1 << 30, 1 << 40},
	}
	axes := map[string]func(float64, float64) scale{"linear bytes": linear(byteUnits), "linear time": linear(timeUnits),
		"by tens": byTens(byteUnits)}
	for name, list := range values {
		for kind, axis := range axes {
			for _, gap := range []time.Duration{time.Second, time.Hour, day, 9 * day, 400 * day} {
				s := series{Name: name}
				for i, value := range list {
					s.samples = append(s.samples, sample{sceneNow.Add(time.Duration(i) * gap), value, "x"})
				}
				ch := newChart("id", "title", clock{sceneNow, time.UTC}, axis, s, series{Name: "empty"})
				checkChart(t, name+", "+kind+", "+gap.String(), ch, list)
			}
		}
	}
	if ch := newChart("id", "title", clock{sceneNow, time.UTC}, linear(byteUnits),
		series{}); len(ch.Series)+len(ch.X)+len(ch.Y) > 0 {
		t.Errorf("nothing was drawn: %+v", ch)
	}
}

func checkChart(t *testing.T, name string, ch chart, values []float64) {
	t.Helper()
	if len(ch.Series) != 1 || len(ch.Series[0].Markers) != len(values) {
		t.Fatalf("%s: %+v", name, ch.Series)
	}
	if len(ch.Y) < 2 || len(ch.Y) > 20 || len(ch.X) == 0 || len(ch.X) > 2*timeTickRoom {
		t.Errorf("%s: %d and %d ticks: %v", name, len(ch.X), len(ch.Y), ch.X)
	}
	inside := func(x, y float64) bool {
		return x >= chartLeft && x <= chartRight && y >= chartTop && y <= chartBottom && !math.IsNaN(x+y)
	}
	markers := ch.Series[0].Markers
	for i, m := range markers {
		if !inside(m.X, m.Y) {
			t.Errorf("%s: value %g is at %g, %g", name, values[i], m.X, m.Y)
		}
		if i > 0 && (m.X < markers[i-1].X || (values[i] > values[i-1]) && m.Y > markers[i-1].Y) {
			t.Errorf("%s: %g after %g, at %+v after %+v", name, values[i], values[i-1], m, markers[i-1])
		}
	}
	for _, tick := range ch.Y {
		if !inside(chartLeft, tick.At) || tick.Label == "" {
			t.Errorf("%s: tick %+v", name, tick)
		}
	}
	for _, tick := range ch.X {
		if !inside(tick.At, chartTop) || tick.Text() > chartWidth-28 {
			t.Errorf("%s: tick %+v", name, tick)
		}
	}
}

// TestTicksAreRound so that people can read between them.
func TestTicksAreRound(t *testing.T) {
	labels := func(s scale) (list []string) {
		for _, tick := range s.ticks {
			list = append(list, tick.Label)
		}
		return list
	}
	for _, c := range []struct {
		got  []string
		want []string
	}{
		{labels(linear(byteUnits)(0, 2.2*float64(gib))), []string{"0 GiB", "1 GiB", "2 GiB", "3 GiB"}},
		{labels(linear(byteUnits)(0, 480*float64(mib))), []string{"0 MiB", "200 MiB", "400 MiB", "600 MiB"}},
		{labels(linear(timeUnits)(0, 29)), []string{"0 s", "10 s", "20 s", "30 s"}},
		{labels(linear(timeUnits)(0, 95)), []string{"0 min", "0.5 min", "1 min", "1.5 min", "2 min"}},
		{labels(byTens(byteUnits)(14*float64(mib), 640*float64(mib))), []string{"10 MiB", "100 MiB", "1 GiB"}},
	} {
		if len(c.got) != len(c.want) {
			t.Errorf("%q, want %q", c.got, c.want)
			continue
		}
		for i := range c.got {
			if c.got[i] != c.want[i] {
				t.Errorf("%q, want %q", c.got, c.want)
			}
		}
	}
}
