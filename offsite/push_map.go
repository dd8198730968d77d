package offsite

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/snapshot"
)

// The map says, for each page of the last pushed version of each path, what it
// was and where it lies: 48 bytes a page, 1.2 % of the files, in one flat file
// that is read and written as a stream.
//
//	records, 48 bytes each | tail, JSON | length of the tail, 8 bytes | SHA-256 of all before
//
// The digest at its end is what makes "lost or unreadable" one case: a map that
// is not exactly what was written is not used.
const (
	mapName    = "map"
	mapFormat  = 2
	recordSize = 48
	mapFooter  = 8 + sha256.Size
)

// pageDigest is the GMAC of a page under the map's key. A page of zeros has the
// zero digest and is never looked up.
type pageDigest [16]byte

// pageHasher digests pages with AES-GMAC (NIST SP 800-38D) under a random key
// that stays in the map. Two pages that are chosen without that key have one
// digest with a probability below 2^-119, which neither rot nor whoever writes
// into the database can improve on; and it costs a fifth of a SHA-256, on every
// page of every push. The nonce is always the same: the digests are as secret
// as the key beside them.
type pageHasher struct {
	key  []byte
	gmac cipher.AEAD
}

// newPageHasher makes a hasher; without a key it gets a new one.
func newPageHasher(key []byte) (*pageHasher, error) {
	if key == nil {
		key = make([]byte, 16)
		rand.Read(key)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	gmac, err := cipher.NewGCM(block)
	return &pageHasher{key, gmac}, err
}

var pageNonce [12]byte

func (h *pageHasher) digest(page []byte) (d pageDigest) {
	h.gmac.Seal(d[:0], pageNonce[:], nil, page)
	return d
}

// location is a page of a pack. The pack counts from one, so that the zero
// value is nowhere.
type location struct{ pack, page uint32 }

func (l location) nowhere() bool { return l.pack == 0 }

// record is what is known of one page. The zero record is a page of zeros, which
// is stored nowhere. A base that lies nowhere is zeros too.
type record struct {
	content pageDigest // of the page as it was pushed
	base    pageDigest // of its base page
	baseAt  location
	patchAt location // nowhere: the page is its base page
}

func (r *record) encode(b []byte) {
	copy(b, r.content[:])
	copy(b[16:], r.base[:])
	for i, n := range []uint32{r.baseAt.pack, r.baseAt.page, r.patchAt.pack, r.patchAt.page} {
		binary.LittleEndian.PutUint32(b[32+4*i:], n)
	}
}

func decodeRecord(b []byte) (r record) {
	copy(r.content[:], b)
	copy(r.base[:], b[16:])
	r.baseAt = location{binary.LittleEndian.Uint32(b[32:]), binary.LittleEndian.Uint32(b[36:])}
	r.patchAt = location{binary.LittleEndian.Uint32(b[40:]), binary.LittleEndian.Uint32(b[44:])}
	return r
}

// packRef is a pack that records point to.
type packRef struct {
	ID     string `json:"id"`
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
	Pages  int64  `json:"pages"`
}

// mappedFile is a path whose records begin at First.
type mappedFile struct {
	Path   string         `json:"path"`
	Size   int64          `json:"size"`
	SHA256 string         `json:"sha256"`
	Stamp  snapshot.Stamp `json:"stamp"` // of the snapshot that this version is from
	First  int64          `json:"first"`
	Link   PushID         `json:"link"`  // the directory below base/ that has its base file
	Based  PushID         `json:"based"` // the push that last sent a base page of it
}

// mapTail is what the records mean.
type mapTail struct {
	Format     int          `json:"format"`
	VaultID    string       `json:"vault_id"`
	Push       PushID       `json:"push"` // that wrote this map
	Recipients string       `json:"recipients"`
	Key        []byte       `json:"key"` // of the pages' digests
	Packs      []packRef    `json:"packs"`
	Files      []mappedFile `json:"files"`
}

// pageMap is an open map.
type pageMap struct {
	mapTail
	file   *os.File
	hasher *pageHasher
	byPath map[string]*mappedFile
}

func (m *pageMap) Close() {
	if m != nil {
		m.file.Close()
	}
}

// errNoMap says that there is no map to be used, and why.
var errNoMap = errors.New("no map")

// openMap opens the map at path and reads it once to see that it is whole. Any
// error but errNoMap comes from the disk; either way the map is not used.
func openMap(path string) (m *pageMap, err error) {
	f, err := fsx.OpenRegular(path, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoMap
	}
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	m = &pageMap{file: f, byPath: make(map[string]*mappedFile)}
	tail, err := readTail(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := json.Unmarshal(tail, &m.mapTail); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if m.Format != mapFormat {
		return nil, fmt.Errorf("%s: format %d", path, m.Format)
	}
	if m.hasher, err = newPageHasher(m.Key); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for i := range m.Files {
		m.byPath[m.Files[i].Path] = &m.Files[i]
	}
	return m, nil
}

var errMapDamaged = errors.New("it is not what was written")

// readTail checks the digest of a whole map and returns its tail.
func readTail(f *os.File) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() < mapFooter {
		return nil, errMapDamaged
	}
	var footer [mapFooter]byte
	if _, err := f.ReadAt(footer[:], info.Size()-mapFooter); err != nil {
		return nil, err
	}
	hash := sha256.New()
	if _, err := io.Copy(hash, io.NewSectionReader(f, 0, info.Size()-sha256.Size)); err != nil {
		return nil, err
	}
	length := binary.LittleEndian.Uint64(footer[:])
	if !bytes.Equal(hash.Sum(nil), footer[8:]) || length > uint64(info.Size()-mapFooter) {
		return nil, errMapDamaged
	}
	tail := make([]byte, length)
	_, err = f.ReadAt(tail, info.Size()-mapFooter-int64(length))
	return tail, err
}

// recordFile is a file of records that is read and written at any place.
type recordFile struct{ *os.File }

// recordBatch is how many records are read or written at once.
const recordBatch = 1024

// read fills into with the records from first on.
func (f recordFile) read(first int64, into []record) error {
	var buf [recordBatch * recordSize]byte
	for len(into) > 0 {
		n := min(len(into), recordBatch)
		if _, err := f.ReadAt(buf[:n*recordSize], first*recordSize); err != nil {
			return err
		}
		for i := range n {
			into[i] = decodeRecord(buf[i*recordSize:])
		}
		into, first = into[n:], first+int64(n)
	}
	return nil
}

func (f recordFile) write(first int64, records []record) error {
	var buf [recordBatch * recordSize]byte
	for len(records) > 0 {
		n := min(len(records), recordBatch)
		for i := range n {
			records[i].encode(buf[i*recordSize:])
		}
		if _, err := f.WriteAt(buf[:n*recordSize], first*recordSize); err != nil {
			return err
		}
		records, first = records[n:], first+int64(n)
	}
	return nil
}

// each calls fn for count records from first on, in order.
func (f recordFile) each(first, count int64, fn func(page int64, r record) error) error {
	var batch [recordBatch]record
	for page := int64(0); page < count; {
		some := batch[:min(recordBatch, count-page)]
		if err := f.read(first+page, some); err != nil {
			return err
		}
		for _, r := range some {
			if err := fn(page, r); err != nil {
				return err
			}
			page++
		}
	}
	return nil
}

// mapWriter writes a map as a stream, durably.
type mapWriter struct {
	file *os.File
	buf  *bufio.Writer
	n    int64
}

func createMap(path string) (*mapWriter, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := fsx.Create(path, 0o600)
	if err != nil {
		return nil, err
	}
	return &mapWriter{file: f, buf: bufio.NewWriterSize(f, 256<<10)}, nil
}

func (w *mapWriter) add(r record) error {
	var b [recordSize]byte
	r.encode(b[:])
	w.n++
	_, err := w.buf.Write(b[:])
	return err
}

// finish writes the tail and the footer. The caller syncs the directory.
func (w *mapWriter) finish(tail mapTail) (err error) {
	defer func() { err = errors.Join(err, w.file.Close()) }()
	data, err := json.Marshal(tail)
	if err != nil {
		return err
	}
	data = binary.LittleEndian.AppendUint64(data, uint64(len(data)))
	if _, err := w.buf.Write(data); err != nil {
		return err
	}
	if err := w.buf.Flush(); err != nil {
		return err
	}
	size := w.n*recordSize + int64(len(data))
	hash := sha256.New()
	if _, err := io.Copy(hash, io.NewSectionReader(w.file, 0, size)); err != nil {
		return err
	}
	if _, err := w.file.Write(hash.Sum(nil)); err != nil {
		return err
	}
	return fsx.Sync(w.file)
}
