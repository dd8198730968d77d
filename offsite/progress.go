package offsite

import (
	"sync"

	"github.com/atocore/atobackupd/internal/fsx"
)

// progress reports how far a transfer is. Several goroutines add to it; tell, if
// it is not nil, is called by one at a time and never with less than before.
type progress struct {
	mu    sync.Mutex
	step  string
	done  int64
	total int64
	tell  fsx.Progress
}

func (p *progress) add(n int64) {
	if p.tell == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	p.tell(p.step, p.done, p.total)
}
