package web

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// The drawing, in its own units: wide enough for a phone without shrinking.
const (
	chartWidth               = 360
	chartLeft, chartRight    = 52, 350
	chartTop, chartBottom    = 10, 172
	valueTicks, timeTickRoom = 4, 5 // about as many as there is room for
	maxMarkers               = 45   // more points than these would run into one another
	day                      = 24 * time.Hour
)

// sample is one measured value.
type sample struct {
	at    time.Time
	value float64
	label string // of its marker
}

// series is what one line shows.
type series struct {
	Name    string
	Class   string // its place in the palette: a, b, c, d
	Line    string // of a polyline
	Markers []marker
	samples []sample
}

type marker struct {
	X, Y  float64
	Label string
}

type tick struct {
	At    float64
	Label string
}

// Text is where the label of a tick of the time axis is centred, so that it
// stays inside the drawing.
func (t tick) Text() float64 { return min(t.At, chartWidth-28) }

// chart is a drawing with axes, ready for the template.
type chart struct {
	ID, Title string
	Summary   string // what it shows, for those who do not see it
	Series    []series
	X, Y      []tick
}

// scale maps values to the vertical axis, whose ticks it chooses.
type scale struct {
	ticks    []tick
	position func(value float64) float64
}

// newChart draws series; one without samples is left out, and a chart without
// any has no ticks.
func newChart(id, title string, c clock, axis func(least, most float64) scale, list ...series) chart {
	ch := chart{ID: id, Title: title}
	least, most := math.Inf(1), 0.0
	var from, to time.Time
	for _, s := range list {
		for _, p := range s.samples {
			least, most = min(least, p.value), max(most, p.value)
			if from.IsZero() || p.at.Before(from) {
				from = p.at
			}
			if p.at.After(to) {
				to = p.at
			}
		}
	}
	if from.IsZero() {
		return ch
	}
	if to.Sub(from) < day {
		from, to = from.Add(-day/2), to.Add(day/2)
	}
	y := axis(least, most)
	ch.Y = y.ticks
	across := func(t time.Time) float64 {
		return round(chartLeft + (chartRight-chartLeft)*float64(t.Sub(from))/float64(to.Sub(from)))
	}
	ch.X = timeTicks(from.In(c.zone), to.In(c.zone), across)
	var words []string
	for _, s := range list {
		if len(s.samples) == 0 {
			continue
		}
		s.draw(across, y.position)
		ch.Series = append(ch.Series, s)
		last := s.samples[len(s.samples)-1]
		words = append(words, s.Name+", last: "+last.label)
	}
	ch.Summary = strings.Join(words, "; ")
	return ch
}

// draw turns samples into a line, and into markers where there is room.
func (s *series) draw(across func(time.Time) float64, up func(float64) float64) {
	var line strings.Builder
	for i, p := range s.samples {
		m := marker{across(p.at), up(p.value), p.label}
		fmt.Fprintf(&line, "%g,%g ", m.X, m.Y)
		if len(s.samples) <= maxMarkers || i == len(s.samples)-1 {
			s.Markers = append(s.Markers, m)
		}
	}
	s.Line = strings.TrimSpace(line.String())
}

func round(x float64) float64 { return math.Round(x*10) / 10 }

// linear begins at zero: a size that grows by a tenth must look like a tenth.
// units are the steps in which people read the values, in growing order.
func linear(units []unit) func(least, most float64) scale {
	return func(_, most float64) scale {
		u := unitFor(units, most)
		step := niceStep(most / u.size / valueTicks)
		top := math.Max(step, math.Ceil(most/u.size/step)*step)
		s := scale{position: func(value float64) float64 {
			return round(chartBottom - (chartBottom-chartTop)*value/(top*u.size))
		}}
		for i := 0; float64(i)*step <= top*1.0001; i++ {
			value := float64(i) * step
			s.ticks = append(s.ticks,
				tick{s.position(value * u.size), fmt.Sprintf("%g %s", round(value*10)/10, u.name)})
		}
		return s
	}
}

// byTens is for values that differ by orders of magnitude, such as a first push
// and those after it. Its ticks are 1, 10 and 100 of each unit, as far as these
// are less than the next one.
func byTens(units []unit) func(least, most float64) scale {
	return func(least, most float64) scale {
		ticks := roundValues(units)
		low := max(0, len(ticks)-2)
		for low > 0 && ticks[low].At > max(1, least) {
			low--
		}
		high := low + 1
		for high < len(ticks)-1 && ticks[high].At < most {
			high++
		}
		from, to := math.Log10(ticks[low].At), math.Log10(ticks[high].At)
		s := scale{position: func(value float64) float64 {
			place := (math.Log10(math.Max(1, value)) - from) / (to - from)
			return round(chartBottom - (chartBottom-chartTop)*min(1, place))
		}}
		for _, t := range ticks[low : high+1] {
			s.ticks = append(s.ticks, tick{s.position(t.At), t.Label})
		}
		return s
	}
}

// roundValues returns the values that people find round, with their names, in
// growing order.
func roundValues(units []unit) (values []tick) {
	for i, u := range units {
		for factor := 1.0; factor <= 100; factor *= 10 {
			if i+1 < len(units) && factor*u.size >= units[i+1].size {
				break
			}
			values = append(values, tick{factor * u.size, fmt.Sprintf("%.0f %s", factor, u.name)})
		}
	}
	return values
}

// unit is a name for a number of bytes or seconds.
type unit struct {
	name string
	size float64
}

var (
	byteUnits = []unit{{"B", 1}, {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}}
	timeUnits = []unit{{"s", 1}, {"min", 60}, {"h", 3600}}
)

func unitFor(units []unit, value float64) unit {
	best := units[0]
	for _, u := range units {
		if value >= 1.5*u.size {
			best = u
		}
	}
	return best
}

// niceStep returns the next of 1, 2, 5, 10, 20, … that is at least x.
func niceStep(x float64) float64 {
	if x <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(x)))
	for _, factor := range []float64{1, 2, 5} {
		if factor*power >= x {
			return factor * power
		}
	}
	return 10 * power
}

// timeTicks marks the first days of months, or every so many days where the time
// is short.
func timeTicks(from, to time.Time, across func(time.Time) float64) []tick {
	next := func(i int) (time.Time, string) {
		months := int(to.Sub(from)/(28*day))/(timeTickRoom-1) + 1
		return time.Date(from.Year(), from.Month()+time.Month(i*months), 1, 0, 0, 0, 0, from.Location()), "Jan 2006"
	}
	for _, days := range []int{1, 2, 7, 14} {
		if to.Sub(from) <= time.Duration(days*timeTickRoom)*day {
			next = func(i int) (time.Time, string) {
				return time.Date(from.Year(), from.Month(), from.Day()+i*days, 0, 0, 0, 0, from.Location()), "2 Jan"
			}
			break
		}
	}
	var ticks []tick
	for i := 0; ; i++ {
		at, layout := next(i)
		if at.After(to) {
			return ticks
		}
		if !at.Before(from) {
			ticks = append(ticks, tick{across(at), at.Format(layout)})
		}
	}
}
