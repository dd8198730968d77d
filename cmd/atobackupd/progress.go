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
	mu          sync.Mutex
	out         io.Writer // nil: not a terminal
	begun       time.Time
	step        string // "": nothing is under way
	done, total int64
	heard       time.Time // when step was last heard of
	bar         *progressbar.ProgressBar
}

const (
	// patience is how long a command may take before it shows anything.
	patience = 500 * time.Millisecond
	// loyalty is how long a step that is not done stays on show although others are
	// heard of: parts that are worked on at once would flicker.
	loyalty = time.Second
)

// start turns it on where w is a terminal.
func (p *terminalProgress) start(w io.Writer) {
	if !isTerminal(w) {
		return
	}
	p.out, p.begun = w, time.Now()
	go func() {
		// A step may say nothing for long after it has begun.
		for range time.Tick(patience / 5) {
			p.mu.Lock()
			p.draw()
			p.mu.Unlock()
		}
	}()
}

// update hears of a step; it is drawn with a bar and a rate where the total is known.
func (p *terminalProgress) update(step string, done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if step != p.step || total != p.total {
		if p.done < p.total && time.Since(p.heard) < loyalty {
			return
		}
		p.clear()
	}
	p.step, p.done, p.total, p.heard = step, done, total, time.Now()
}

// draw shows the step that was last heard of.
func (p *terminalProgress) draw() {
	if p.step == "" || time.Since(p.begun) < patience {
		return
	}
	if p.bar == nil {
		total := p.total
		if total <= 0 {
			total = -1 // a spinner
		}
		p.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(p.out),
			progressbar.OptionSetDescription(p.step),
			progressbar.OptionShowBytes(p.total > 0),
			progressbar.OptionUseIECUnits(true),
			progressbar.OptionSetSpinnerChangeInterval(0),
			progressbar.OptionSetPredictTime(true),
			progressbar.OptionFullWidth(),
		)
	}
	if p.total > 0 {
		_ = p.bar.Set64(min(p.done, p.total-1)) // a full bar would end its line
	} else {
		_ = p.bar.RenderBlank()
	}
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
	p.step, p.done, p.total = "", 0, 0
}
