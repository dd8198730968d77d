package history

import (
	"context"
	"time"
)

// Push is one snapshot that arrived at a target.
type Push struct {
	Target   string        `json:"target"`
	Stamp    string        `json:"stamp"`
	Push     string        `json:"push"` // its id in the vault
	Seq      int64         `json:"seq"`
	Bytes    int64         `json:"bytes"` // that were sent
	Packs    int           `json:"packs"`
	Duration time.Duration `json:"-"`
	At       time.Time     `json:"at"` // when it was complete
}

// AddPush records a push. One that is there already is no error.
func (d *DB) AddPush(ctx context.Context, p Push) error {
	_, err := d.exec(ctx, `INSERT INTO pushes (target, stamp, push, seq, bytes, packs, duration_ms, at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (push) DO NOTHING`,
		p.Target, p.Stamp, p.Push, p.Seq, p.Bytes, p.Packs, p.Duration.Milliseconds(), p.At.UnixMilli())
	return err
}

// Pushes returns the newest pushes to a target, or to all when target is "",
// newest first, at most limit of them.
func (d *DB) Pushes(ctx context.Context, target string, limit int) ([]Push, error) {
	return list(ctx, d, scanPush, `SELECT target, stamp, push, seq, bytes, packs, duration_ms, at FROM pushes
		WHERE ?1 = '' OR target = ?1 ORDER BY at DESC, id DESC LIMIT ?2`, target, limit)
}

func scanPush(r row) (p Push, err error) {
	err = r.Scan(&p.Target, &p.Stamp, &p.Push, &p.Seq, &p.Bytes, &p.Packs, intoDuration{&p.Duration}, intoTime{&p.At})
	return p, err
}
