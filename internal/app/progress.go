package app

import (
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/health"
)

// A job that is under way leaves how far it is in state_dir, where whoever asks how
// things stand finds it: most often that is another process. The file says which run
// it is of, because one that was killed leaves it behind.

const (
	// progressEvery is how often it is written at most.
	progressEvery = time.Second
	// stepLoyalty is how long a step that is not done is stuck to while another one
	// goes on beside it.
	stepLoyalty = time.Second
)

// jobProgress is how far one job of this process is.
type jobProgress struct {
	mu      sync.Mutex
	path    string
	file    *os.File // made with the first word
	written time.Time
	now     progressDoc
}

type progressDoc struct {
	Run int64 `json:"run"`
	health.Progress
}

func (a *App) progressPath(job string) string {
	return filepath.Join(a.Config.StateDir, "running-"+job+".json")
}

// trackProgress begins to keep how far the run of a job is, until it is told to stop.
func (a *App) trackProgress(job string, run int64) (stop func()) {
	p := &jobProgress{path: a.progressPath(job), now: progressDoc{Run: run}}
	a.process.mu.Lock()
	a.process.progress[job] = p
	a.process.mu.Unlock()
	return func() {
		a.process.mu.Lock()
		delete(a.process.progress, job)
		a.process.mu.Unlock()
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.file != nil {
			p.file.Close()
			_ = os.Remove(p.path) // it is of a run that has ended, which a reader sees
		}
	}
}

// progressOf returns what a job tells how far it is.
func (a *App) progressOf(job string) fsx.Progress {
	return func(step string, done, total int64) {
		a.progress(step, done, total)
		a.process.mu.Lock()
		p := a.process.progress[job]
		a.process.mu.Unlock()
		if p != nil {
			p.hear(step, done, total, time.Now())
		}
	}
}

func (p *jobProgress) hear(step string, done, total int64, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if step != p.now.Step || total != p.now.Total {
		if p.now.Done < p.now.Total && now.Sub(p.now.At) < stepLoyalty {
			return
		}
		p.now.Step, p.now.Total, p.now.Since = step, total, now
	}
	p.now.Done, p.now.At = done, now
	if now.Sub(p.written) < progressEvery {
		return
	}
	p.written = now
	if p.file == nil {
		_ = os.Remove(p.path) // of one that was killed
		// Whatever somebody lays at the name, this process writes into its own file.
		f, err := os.OpenFile(p.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return
		}
		p.file = f
	}
	if data, err := json.Marshal(p.now); err == nil && p.file.Truncate(0) == nil {
		_, _ = p.file.WriteAt(data, 0) // a reader that finds half of it does without
	}
}

// progressOfRun returns how far a run is, nil where that is not known.
func (a *App) progressOfRun(job string, run int64) *health.Progress {
	data, err := fsx.ReadRegular(a.progressPath(job), mostDocument)
	var doc progressDoc
	if err != nil || json.Unmarshal(data, &doc) != nil || doc.Run != run || run == 0 {
		return nil
	}
	return &doc.Progress
}
