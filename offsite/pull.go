package offsite

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/klauspost/compress/zstd"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// PullOptions says how a snapshot is fetched.
type PullOptions struct {
	Identities crypt.Identities
	Signers    crypt.Signers // the public key that must have signed it
	Progress   fsx.Progress

	// Uncached is for what nobody is going to read soon: it is not kept in the page
	// cache, where it would push out what is in use.
	Uncached bool

	// Owners are those whose links in the destination's path are followed; root
	// and the caller where there are none.
	Owners tree.Owners
}

func (o *PullOptions) owners() tree.Owners {
	if o.Owners == nil {
		return tree.Trusted("")
	}
	return o.Owners
}

// Pull fetches one snapshot into dest, which must not exist or be empty: a
// snapshot directory as it lay on the host. The signature is verified before
// anything else, the manifest against its signed digest, every file against the
// manifest's; where one differs the error names the pack. The snapshot is built
// beside dest and renamed, so that dest is whole or absent. Everything is done by
// handle: what somebody else puts in the way meanwhile is an error. Owners are set
// where this process may; modes and times always.
func (v *Vault) Pull(ctx context.Context, s Stored, dest string, o PullOptions) (err error) {
	sums, err := v.verified(ctx, s, o.Signers)
	if err != nil {
		return err
	}
	m, err := v.manifest(ctx, s, sums, o.Identities)
	if err != nil {
		return err
	}
	parent, base, err := openDestination(dest, o.owners())
	if err != nil {
		return err
	}
	defer parent.Close()
	if err := checkDestination(parent, base, m); err != nil {
		return err
	}
	// The handle stays with what was made, whatever happens to its name.
	dir, temp, err := parent.MkdirTemp("."+base+".pull-*", 0o700)
	if err != nil {
		return err
	}
	defer dir.Close()
	defer func() {
		if err != nil {
			err = errors.Join(err, parent.RemoveAll(temp))
		}
	}()
	above, err := parent.Attributes(".")
	if err != nil {
		return err
	}
	if err := v.restoreFiles(ctx, m, sums, dir, above, o); err != nil {
		return err
	}
	if err := parent.RenameDurably(temp, parent, base, tree.Replace); err != nil { // an empty directory goes
		return err
	}
	return parent.Expect(base, dir.ID())
}

// openDestination opens the directory that will hold dest, and makes it where it
// is missing.
func openDestination(dest string, owners tree.Owners) (parent *tree.Dir, base string, err error) {
	if dest, err = filepath.Abs(dest); err != nil {
		return nil, "", err
	}
	above, err := tree.OpenOrMake(filepath.Dir(dest), owners, 0o700)
	if err != nil {
		return nil, "", err
	}
	above.Close()
	parent, base, err = tree.OpenParent(dest, owners)
	if err == nil && base == "." {
		parent.Close()
		err = &fs.PathError{Op: "restore into", Path: dest, Err: fs.ErrInvalid}
	}
	return parent, base, err
}

// checkDestination fails unless base is missing or an empty directory, with room
// for the files beside it.
func checkDestination(parent *tree.Dir, base string, m *Manifest) error {
	refuse := func(why string) error {
		return &failure.Error{
			Op: "vault restore", Subject: parent.Name(base), Kind: failure.Refused, Err: errors.New(why),
			Hint: "name a directory that does not exist yet",
		}
	}
	there, err := parent.Lstat(base)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case !there.IsDir():
		return refuse("it is not a directory")
	default:
		d, err := parent.OpenDir(base)
		if err != nil {
			return err
		}
		defer d.Close()
		for _, err := range d.Entries() {
			return cmp.Or(err, refuse("it is not empty"))
		}
	}
	free, err := fsx.Free(parent.ProcPath("."))
	if err != nil || free >= m.stored() {
		return err
	}
	return &failure.Error{
		Op: "vault restore", Subject: parent.Name(base), Kind: failure.NoSpace,
		Err: fmt.Errorf("%d MiB are free, and %d MiB are needed", free>>20, (m.stored()+1<<20-1)>>20),
	}
}

// stored returns the bytes that the pages of a manifest take on a disk: holes
// take none.
func (m *Manifest) stored() int64 {
	total := int64(0)
	for i := range m.Files {
		for _, layer := range [][]Run{m.Files[i].Base, m.Files[i].Patch} {
			for _, r := range layer {
				total += r.Pages * PageSize
			}
		}
	}
	return total
}

// manifest fetches the manifest of a verified push, compares it with its signed
// digest before anything else, decrypts and checks it.
func (v *Vault) manifest(
	ctx context.Context, s Stored, sums sums, identities crypt.Identities,
) (m *Manifest, err error) {
	name := s.Push.object(manifestSuffix)
	bad := func(err error) error {
		return &failure.Error{Op: "vault", Subject: name, Kind: failure.Invalid, Err: err}
	}
	sealed, err := v.fetch(ctx, name, sums, maxManifest)
	if err != nil {
		return nil, err
	}
	plain, err := identities.Open(bytes.NewReader(sealed))
	if err != nil {
		return nil, err
	}
	data, err := expand(plain)
	if err != nil {
		return nil, bad(err)
	}
	if m, err = decodeManifest(data, s); err != nil {
		return nil, bad(err)
	}
	for _, id := range m.Packs {
		if sums[packName(id)] == "" {
			return nil, bad(fmt.Errorf("pack %s is not among the signed checksums", id))
		}
	}
	return m, nil
}

// expand decompresses a manifest, of a bounded size.
func expand(r io.Reader) ([]byte, error) {
	dec, err := newDecoder(r)
	if err != nil {
		return nil, err
	}
	defer dec.Close()
	data, err := io.ReadAll(io.LimitReader(dec, maxManifest+1))
	if err == nil && len(data) > maxManifest {
		err = fmt.Errorf("it decompresses past %d bytes", maxManifest)
	}
	return data, err
}

func decodeManifest(data []byte, s Stored) (*Manifest, error) {
	m := new(Manifest)
	if err := json.Unmarshal(data, m); err != nil {
		return nil, err
	}
	return m, m.check(s.Stamp)
}

// newDecoder decompresses a stream in a bounded memory, whatever its header
// asks for.
func newDecoder(r io.Reader) (*zstd.Decoder, error) {
	return zstd.NewReader(
		r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow),
	)
}

// object is an object of the vault that is being read.
type object struct {
	name string
	body io.ReadCloser
	err  error // of the body, if it was not the end
}

// open opens an object; a pack that prune has moved to trash/ is found there.
func (v *Vault) open(ctx context.Context, name string) (*object, error) {
	body, err := openPlain(ctx, v.remote, name)
	if id, isPack := packID(name); isPack && errors.Is(err, fs.ErrNotExist) {
		body, err = v.remote.Open(ctx, trashName(id))
		if errors.Is(err, fs.ErrNotExist) { // moved back just now?
			body, err = v.remote.Open(ctx, name)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, damagedObject(name, "it is missing")
	}
	if err != nil {
		return nil, err
	}
	return &object{name: name, body: body}, nil
}

// openPlain opens an object. What has its name and is no plain file is damage, as
// an object that is missing is, whatever words a remote has for it.
func openPlain(ctx context.Context, remote Remote, name string) (io.ReadCloser, error) {
	body, err := remote.Open(ctx, name)
	if err == nil || errors.Is(err, fs.ErrNotExist) || isTransportError(err) || ctx.Err() != nil {
		return body, err
	}
	if e, statErr := remote.Stat(ctx, name); statErr == nil && !e.IsFile() {
		err = damagedObject(name, notPlain)
	}
	return nil, err
}

const notPlain = "it is not a plain file"

func (o *object) Read(p []byte) (int, error) {
	n, err := o.body.Read(p)
	if err != nil && err != io.EOF {
		o.err = err
	}
	return n, err
}

func (o *object) Close() error { return o.body.Close() }

// summed is an object that is digested as it is read.
type summed struct {
	*object
	want string
	hash hash.Hash
}

// openSummed opens an object that the checksums name.
func (v *Vault) openSummed(ctx context.Context, name string, sums sums) (*summed, error) {
	want, ok := sums[name]
	if !ok {
		return nil, corrupt(name)
	}
	o, err := v.open(ctx, name)
	if err != nil {
		return nil, err
	}
	return &summed{o, want, sha256.New()}, nil
}

func (s *summed) Read(p []byte) (int, error) {
	n, err := s.object.Read(p)
	s.hash.Write(p[:n])
	return n, err
}

// verify reads the rest and compares the digest.
func (s *summed) verify() error {
	if _, err := io.Copy(io.Discard, struct{ io.Reader }{s}); err != nil {
		return err
	}
	if s.digest() != s.want {
		return corrupt(s.name)
	}
	return nil
}

// digest is that of what was read.
func (s *summed) digest() string { return hex.EncodeToString(s.hash.Sum(nil)) }

// checkObject compares a whole object with its signed digest.
func (v *Vault) checkObject(ctx context.Context, name string, sums sums) error {
	r, err := v.openSummed(ctx, name, sums)
	if err != nil {
		return err
	}
	defer r.Close()
	return r.verify()
}

// Recipients returns who can open a snapshot, as the host says in its manifest:
// what an age file itself tells of that is nobody's name.
func (v *Vault) Recipients(
	ctx context.Context, s Stored, signers crypt.Signers, identities crypt.Identities,
) ([]string, error) {
	sums, err := v.verified(ctx, s, signers)
	if err != nil {
		return nil, err
	}
	m, err := v.manifest(ctx, s, sums, identities)
	if err != nil {
		return nil, err
	}
	return m.Recipients, nil
}
