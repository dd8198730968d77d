package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
)

// terminalProgress shows how far long work is, on a terminal only: a log or a
// pipe gets none of it.
type terminalProgress struct {
	mu    sync.Mutex
	out   io.Writer // nil: not a terminal
	begun time.Time
	step  string
	bar   *progressbar.ProgressBar
}

// patience is how long a command may take before it shows anything.
const patience = 500 * time.Millisecond

// start turns it on where w is a terminal.
func (p *terminalProgress) start(w io.Writer) {
	if isTerminal(w) {
		p.out, p.begun = w, time.Now()
	}
}

// update shows a step, with a bar and a rate where the total is known.
func (p *terminalProgress) update(step string, done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out == nil || time.Since(p.begun) < patience {
		return
	}
	if p.bar == nil || step != p.step {
		p.clear()
		p.step = step
		if total <= 0 {
			total = -1 // a spinner
		}
		p.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(p.out),
			progressbar.OptionSetDescription(step),
			progressbar.OptionShowBytes(true),
			progressbar.OptionUseIECUnits(true),
			progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionSetPredictTime(true),
			progressbar.OptionClearOnFinish(),
			progressbar.OptionFullWidth(),
		)
	}
	_ = p.bar.Set64(done)
}

// line prints a line of its own, above the bar.
func (p *terminalProgress) line(w io.Writer, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	fmt.Fprintln(w, text)
}

// finish takes the bar away.
func (p *terminalProgress) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}

func (p *terminalProgress) clear() {
	if p.bar != nil {
		_ = p.bar.Clear()
		p.bar = nil
	}
}
