package s3

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"

	"github.com/atocore/atobackupd/offsite"
)

// probeName is the name of every probe: where the key may not remove it, one stays
// and no others come.
const probeName = offsite.IncomingDir + "/probe"

const probeText = "whether a put can refuse to replace\n"

// knowConditional finds out, before the first put, whether the service refuses
// to replace when it is asked to: some answer that they cannot, and some put all
// the same. A key that may not remove the probe can put what follows.
func (r *Remote) knowConditional(ctx context.Context) error {
	r.state.probing.Lock()
	defer r.state.probing.Unlock()
	if r.state.Asked {
		return nil
	}
	_, err := r.probe(ctx, false)
	return err
}

// TryStore stores a probe, reads it back and removes it. kept is the service's
// refusal to remove, or nil where the key may.
func (r *Remote) TryStore(ctx context.Context) (kept, err error) {
	if err := r.check(ctx, "probe", probeName); err != nil {
		return nil, err
	}
	r.state.probing.Lock()
	defer r.state.probing.Unlock()
	kept, err = r.probe(ctx, true)
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	return r.explain("remove", probeName, kept), r.explain("probe", probeName, err)
}

// probe puts the probe twice: the second put, or the first where one has stayed,
// must be refused. With whole it is also read back, and put without a condition
// where no conditional put could.
func (r *Remote) probe(ctx context.Context, whole bool) (kept, err error) {
	b, err := gather(ctx, bytes.NewReader([]byte(probeText)))
	if err != nil {
		return nil, err
	}
	defer b.release()
	works := false
	for range 2 {
		_, err = r.send(ctx, probeName, b, true)
		if err != nil {
			works = code(err) == "PreconditionFailed"
			break
		}
	}
	lacking := err != nil && !works
	if lacking && !lacks(err) && code(err) != "InvalidArgument" {
		return nil, err
	}
	r.forget(probeName)
	if whole {
		if err := r.readBack(ctx, b, lacking); err != nil {
			return nil, err
		}
	}
	err = r.remove(ctx, probeName)
	switch {
	case denied(err):
		kept = err
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	r.state.Asked, r.state.Conditional = true, works
	return kept, r.state.save()
}

// readBack reads the probe, which it puts first where that is still to be done.
func (r *Remote) readBack(ctx context.Context, b *body, put bool) error {
	_, there, err := r.lookAt(ctx, probeName)
	if err != nil {
		return err
	}
	if put || !there { // some services take a marker for an object
		if _, err := r.send(ctx, probeName, b, false); err != nil {
			return err
		}
		r.forget(probeName)
	}
	object, err := r.open(ctx, probeName)
	if err != nil {
		return err
	}
	defer object.Close()
	data, err := io.ReadAll(io.LimitReader(object, int64(2*len(probeText))))
	if err == nil && string(data) != probeText {
		err = local{errors.New("it was read back with other bytes")}
	}
	return err
}
