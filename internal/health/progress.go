package health

import (
	"fmt"
	"time"
)

// Progress is how far a job that is under way is: done of total bytes of its step, or
// zero for both where only the step is known.
type Progress struct {
	Step  string    `json:"step"`
	Done  int64     `json:"done"`
	Total int64     `json:"total"`
	Since time.Time `json:"since"` // the step began
	At    time.Time `json:"at"`    // it was last heard of
}

// rateAfter is how long a step must have run before its speed says anything.
const rateAfter = 2 * time.Second

// String writes it for people: the step, percent, speed and the time that is left.
func (p Progress) String() string {
	if p.Total <= 0 {
		return p.Step
	}
	text := fmt.Sprintf("%s, %d %%", p.Step, 100*min(p.Done, p.Total)/p.Total)
	took := p.At.Sub(p.Since)
	if took < rateAfter || p.Done <= 0 {
		return text
	}
	rate := float64(p.Done) / took.Seconds()
	text += fmt.Sprintf(" at %.1f MiB/s", rate/(1<<20))
	left := time.Duration(float64(max(p.Total-p.Done, 0)) / rate * float64(time.Second))
	switch {
	case left >= 2*time.Hour:
		return text + fmt.Sprintf(", %.0f h left", left.Hours())
	case left >= 2*time.Minute:
		return text + fmt.Sprintf(", %.0f min left", left.Minutes())
	}
	return text + fmt.Sprintf(", %.0f s left", left.Seconds())
}
