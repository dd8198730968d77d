package offsite

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/snapshot"
)

const hostileStamp = snapshot.Stamp("20260407T060000Z")

var hostilePush = PushID(string(hostileStamp) + "-0a1b2c")

// wellBehaved is a manifest that passes, for tests to spoil.
func wellBehaved() *Manifest {
	return &Manifest{
		Format:   1,
		Stamp:    hostileStamp,
		PageSize: PageSize,
		Packs:    []string{string(hostilePush) + "-000000"},
		Files: []FileEntry{
			{File: snapshot.File{Path: "db", Type: snapshot.TypeDir, Mode: 0o755}},
			{File: snapshot.File{Path: "db/atocore.db", Type: snapshot.TypeFile, Size: 3*PageSize + 1, Mode: 0o640},
				Base: []Run{{0, 2, 0, 0}, {3, 1, 0, 7}}, Patch: []Run{{1, 1, 0, 2}}},
			{File: snapshot.File{Path: "chroma/link", Type: snapshot.TypeSymlink, Target: "../db/atocore.db"}},
		},
	}
}

func TestHostileManifests(t *testing.T) {
	file := func(m *Manifest) *FileEntry { return &m.Files[1] }
	add := func(m *Manifest, f snapshot.File) { m.Files = append(m.Files, FileEntry{File: f}) }
	link := func(path, target string) func(*Manifest) {
		return func(m *Manifest) { add(m, snapshot.File{Path: path, Type: snapshot.TypeSymlink, Target: target}) }
	}
	path := func(p string) func(*Manifest) {
		return func(m *Manifest) { add(m, snapshot.File{Path: p, Type: snapshot.TypeFile}) }
	}
	for name, c := range map[string]struct {
		spoil func(*Manifest)
		says  string
	}{
		"nothing":            {func(*Manifest) {}, ""},
		"a later format":     {func(m *Manifest) { m.Format = 2 }, "format 2"},
		"other pages":        {func(m *Manifest) { m.PageSize = 512 }, "512"},
		"another stamp's":    {func(m *Manifest) { m.Stamp = "20260408T060000Z" }, "20260408T060000Z"},
		"no pack":            {func(m *Manifest) { m.Packs[0] = "../../etc/passwd" }, "../../etc/passwd"},
		"a pack twice":       {func(m *Manifest) { m.Packs = append(m.Packs, m.Packs[0]) }, "twice"},
		"absolute":           {path("/etc/passwd"), "/etc/passwd"},
		"above":              {path("../up"), "../up"},
		"above, inside":      {path("db/../../up"), "db/../../up"},
		"the directory":      {path("."), "leaves"},
		"two dots":           {path(".."), "leaves"},
		"no name":            {path(""), `""`},
		"not clean":          {path("db//x"), "db//x"},
		"a zero byte":        {path("db/x\x00y"), `x\x00y`},
		"too long":           {path(strings.Repeat("a/", 3000) + "a"), "no path"},
		"listed twice":       {path("db/atocore.db"), "twice"},
		"the manifest's own": {path("backup-metadata.json"), "carried"},
		"ours":               {path("atobackupd.json"), "carried"},
		"below a file":       {path("db/atocore.db/x"), "below"},
		"below a link":       {path("chroma/link/x"), "below"},
		"a device":           {func(m *Manifest) { file(m).Type = "char" }, "char"},
		"no type":            {func(m *Manifest) { file(m).Type = "" }, "no snapshot holds"},
		"negative":           {func(m *Manifest) { file(m).Size = -1 }, "-1 bytes"},
		"enormous":           {func(m *Manifest) { file(m).Size = 1 << 62 }, "bytes"},
		"enormous together":  {func(m *Manifest) { hugeTogether(m) }, "more than"},
		"a huge directory":   {func(m *Manifest) { m.Files[0].Size = 1 << 60 }, "bytes"},
		"absolute link":      {link("l", "/etc/passwd"), "leads out"},
		"link above":         {link("l", ".."), "leads out"},
		"link above, deeper": {link("chroma/l", "../../x"), "leads out"},
		"link through a link": {
			func(m *Manifest) { link("up", "db/..")(m); link("db/l", "../up/../../x")(m) }, "leads out",
		},
		"link to nothing":    {link("l", ""), `""`},
		"link with pages":    {func(m *Manifest) { m.Files[2].Base = []Run{{0, 1, 0, 0}} }, "has pages"},
		"directory of pages": {func(m *Manifest) { m.Files[0].Patch = []Run{{0, 1, 0, 0}} }, "has pages"},
		"past the end":       {func(m *Manifest) { file(m).Base[1].Pages = 2 }, "outside"},
		"before the start":   {func(m *Manifest) { file(m).Base[0].FilePage = -1 }, "outside"},
		"no pages":           {func(m *Manifest) { file(m).Base[0].Pages = 0 }, "outside"},
		"overflow":           {func(m *Manifest) { file(m).Base[0] = Run{1, 1<<63 - 1, 0, 0} }, "outside"},
		"overflow of pages":  {func(m *Manifest) { file(m).Base[0].PackPage = 1<<63 - 1 }, "outside any pack"},
		"a bomb's page":      {func(m *Manifest) { file(m).Base[0].PackPage = maxPackPages }, "outside any pack"},
		"negative page":      {func(m *Manifest) { file(m).Base[0].PackPage = -1 }, "outside any pack"},
		"a pack too far":     {func(m *Manifest) { file(m).Patch[0].Pack = 1 }, "pack 1 of 1"},
		"a negative pack":    {func(m *Manifest) { file(m).Patch[0].Pack = -1 }, "pack -1"},
		"overlap":            {func(m *Manifest) { file(m).Base[1] = Run{1, 1, 0, 5} }, "overlap"},
	} {
		m := wellBehaved()
		c.spoil(m)
		err := m.check(hostileStamp)
		if (c.says == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v does not say %q", name, err, c.says)
		}
	}
}

func hugeTogether(m *Manifest) {
	for i := range 20 {
		m.Files = append(
			m.Files,
			FileEntry{File: snapshot.File{Path: fmt.Sprint(i), Type: snapshot.TypeFile, Size: maxFileSize}},
		)
	}
}

func TestHostileSums(t *testing.T) {
	own := fmt.Sprintf(
		"%064d  %s\n%064d  %s\n", 1, hostilePush.object(manifestSuffix), 2, hostilePush.object(infoSuffix),
	)
	pack := "  packs/" + string(hostilePush) + "-000000.age\n"
	for name, c := range map[string]struct{ data, says string }{
		"whole":        {own + strings.Repeat("a", 64) + pack, ""},
		"empty":        {"", "line 1"},
		"no manifest":  {strings.SplitAfter(own, "\n")[1], "does not name"},
		"garbage":      {own + "garbage\n", "line 3"},
		"short digest": {own + strings.Repeat("a", 63) + pack, "line 3"},
		"upper case":   {own + strings.Repeat("A", 64) + pack, "line 3"},
		"binary mark":  {own + strings.Repeat("a", 64) + " *" + pack[2:], "line 3"},
		"twice":        {own + strings.Repeat("a", 64) + pack + strings.Repeat("b", 64) + pack, "again"},
		"above":        {own + strings.Repeat("a", 64) + "  packs/../../x.age\n", "does not belong"},
		"absolute":     {own + strings.Repeat("a", 64) + "  /etc/passwd\n", "does not belong"},
		"another's json": {
			own + strings.Repeat("a", 64) + "  snapshots/20260408T060000Z-0a1b2c.json\n", "does not belong",
		},
		"a blank line": {own + "\n", "line 3"},
		"escaped":      {own + `\` + strings.Repeat("a", 64) + pack, "line 3"},
		"carriage":     {strings.ReplaceAll(own, "\n", "\r\n"), "line 1"},
	} {
		_, err := parseSums(hostilePush, []byte(c.data))
		if (c.says == "") != (err == nil) ||
			err != nil &&
				(!strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), string(hostilePush))) {
			t.Errorf("%s: %v does not say %q", name, err, c.says)
		}
	}
}

func TestHostileInfo(t *testing.T) {
	for _, data := range []string{
		``, `[]`, `{"stamp":"20260408T060000Z","kind":"daily"}`, `{"stamp":"20260407T060000Z","kind":"\u001b[31m"}`,
		`{"stamp":"20260407T060000Z","kind":"daily","seq":-1}`,
		`{"stamp":"20260407T060000Z","kind":"daily","seq":1e99}`,
	} {
		s := Stored{Push: hostilePush}
		if err := s.parseInfo([]byte(data)); err == nil {
			t.Errorf("%s: %v", data, err)
		}
	}
}

func TestHostileVaultInfo(t *testing.T) {
	good := VaultInfo{ID: strings.Repeat("0a", 16), Host: "dalidou"}
	if err := good.check(); err != nil {
		t.Error(err)
	}
	for name, info := range map[string]VaultInfo{
		"no id":       {Host: "h"},
		"a path":      {ID: "../../../../../../../../etc/passwd", Host: "h"},
		"an escape":   {ID: good.ID, Host: "h\x1b]0;owned\a"},
		"a long host": {ID: good.ID, Host: strings.Repeat("h", 10000)},
	} {
		if info.check() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// fillFrom runs the part of a restore that comes after the digests held.
func fillFrom(tb testing.TB, m *Manifest, pack []byte, identities crypt.Identities) error {
	root, err := tree.Open(tb.TempDir(), tree.Trusted(""))
	if err != nil {
		tb.Fatal(err)
	}
	defer root.Close()
	if err := makeEntries(root, m); err != nil {
		return err
	}
	f, err := newRestorer(m, root)
	if err != nil {
		return err
	}
	defer f.patches.Close()
	f.identities = identities
	read := func(reads packReads, put putPages) error {
		w, err := f.newPackReader(tb.Context(), put)
		if err != nil {
			tb.Fatal(err)
		}
		defer w.close()
		return w.streamPack(&object{name: "packs/x.age", body: io.NopCloser(bytes.NewReader(pack))}, reads[0])
	}
	if err := read(packReadsOf(m, patchRuns), (*packReader).putPatch); err != nil {
		return err
	}
	if err := f.fillHoles(tb.Context()); err != nil {
		return err
	}
	return read(packReadsOf(m, baseRuns), (*packReader).putBase)
}

// sealPack makes a pack of a stream that need not be zstd.
func sealPack(tb testing.TB, recipients *crypt.Recipients, stream []byte) []byte {
	var out bytes.Buffer
	w, err := recipients.Seal(&out)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := w.Write(stream); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

func compress(tb testing.TB, data []byte, options ...zstd.EOption) []byte {
	enc, err := zstd.NewWriter(nil, options...)
	if err != nil {
		tb.Fatal(err)
	}
	defer enc.Close()
	return enc.EncodeAll(data, nil)
}

func keys(tb testing.TB) (*crypt.Recipients, crypt.Identities) {
	path := filepath.Join(tb.TempDir(), "key.txt")
	recipient, err := crypt.WriteIdentity(path)
	if err != nil {
		tb.Fatal(err)
	}
	recipients, err := crypt.ParseRecipients([]string{recipient})
	if err != nil {
		tb.Fatal(err)
	}
	identities, err := crypt.LoadIdentities(path)
	if err != nil {
		tb.Fatal(err)
	}
	return recipients, identities
}

func TestHostilePacks(t *testing.T) {
	recipients, identities := keys(t)
	pages := bytes.Repeat([]byte("page"), 8*PageSize/4)
	for name, c := range map[string]struct {
		stream []byte
		whole  bool
	}{
		"whole":              {compress(t, pages), true},
		"in two frames":      {append(compress(t, pages[:PageSize+10]), compress(t, pages[PageSize+10:])...), true},
		"more than it needs": {compress(t, append(pages, pages...)), true},
		"empty":              {nil, false},
		"no zstd":            {[]byte("this is no zstd"), false},
		"too short":          {compress(t, pages[:3*PageSize]), false},
		"cut":                {compress(t, pages)[:20], false},
		"a huge window":      {[]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff, 0x01, 0x00, 0x00}, false},
		"a huge size": {
			[]byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0x01, 0x00, 0x00},
			false,
		},
	} {
		err := fillFrom(t, wellBehaved(), sealPack(t, recipients, c.stream), identities)
		if c.whole != (err == nil) || err != nil && !strings.Contains(err.Error(), "packs/x.age") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := fillFrom(t, wellBehaved(), []byte("age-encryption.org/v1\nnonsense"), identities); err == nil ||
		!strings.Contains(err.Error(), "packs/x.age") {
		t.Errorf("no age file: %v", err)
	}
}

// 320 MiB of zeros in a few kilobytes: no more of it is expanded than the
// runs ask for.
func TestBombs(t *testing.T) {
	recipients, identities := keys(t)
	frame := compress(t, make([]byte, 64<<20))
	bomb := bytes.Repeat(frame, 5)
	if err := fillFrom(t, wellBehaved(), sealPack(t, recipients, bomb), identities); err != nil {
		t.Error(err)
	}
	if _, err := expand(bytes.NewReader(bomb)); err == nil || !strings.Contains(err.Error(), "decompresses past") {
		t.Errorf("a manifest of 320 MiB: %v", err)
	}
}

func FuzzManifest(f *testing.F) {
	good, err := json.Marshal(wellBehaved())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"format":1,"files":[{"path":"../x"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decodeManifest(data, Stored{Push: hostilePush, Info: Info{Stamp: hostileStamp}})
		if err != nil {
			return
		}
		for _, file := range m.Files {
			if !filepath.IsLocal(filepath.FromSlash(file.Path)) {
				t.Errorf("%q was accepted", file.Path)
			}
			if file.Type == snapshot.TypeSymlink &&
				!filepath.IsLocal(filepath.Join(filepath.Dir(file.Path), file.Target)) {
				t.Errorf("%q -> %q was accepted", file.Path, file.Target)
			}
		}
	})
}

func FuzzRuns(f *testing.F) {
	f.Add([]byte(`[[0,1,0,0],[1,2,1,5]]`), int64(10*PageSize), 2)
	f.Add([]byte(`[[0,9223372036854775807,0,1]]`), int64(1), 1)
	f.Fuzz(func(t *testing.T, data []byte, size int64, packs int) {
		var runs []Run
		if size < 0 || size > maxFileSize || json.Unmarshal(data, &runs) != nil ||
			checkRuns(runs, pages(size), packs) != nil {
			return
		}
		covered := int64(0)
		for _, r := range runs {
			if r.Pages <= 0 || r.FilePage < 0 || r.FilePage+r.Pages > pages(size) || r.Pack < 0 ||
				r.Pack >= int64(packs) ||
				r.PackPage < 0 ||
				r.PackPage+r.Pages > maxPackPages {
				t.Errorf("%v was accepted for %d bytes", r, size)
			}
			covered += r.Pages
		}
		if covered > pages(size) {
			t.Errorf("%v cover %d pages of %d", runs, covered, pages(size))
		}
	})
}

func FuzzSums(f *testing.F) {
	f.Add(
		formatSums(
			[]sum{
				{strings.Repeat("a", 64), hostilePush.object(manifestSuffix)},
				{strings.Repeat("b", 64), hostilePush.object(infoSuffix)},
				{strings.Repeat("c", 64), packName(string(hostilePush) + "-000000")},
			},
		),
	)
	f.Fuzz(func(t *testing.T, data []byte) {
		lines, err := parseSums(hostilePush, data)
		if err != nil {
			return
		}
		for _, line := range lines {
			if !filepath.IsLocal(line.Name) || filepath.Clean(line.Name) != line.Name {
				t.Errorf("%q was accepted", line.Name)
			}
		}
		again, err := parseSums(hostilePush, formatSums(lines))
		if err != nil || len(again) != len(lines) {
			t.Errorf("%q does not read back: %v", formatSums(lines), err)
		}
	})
}

func FuzzVaultInfo(f *testing.F) {
	f.Add(
		[]byte(
			`{"format":"atobackup-vault","version":1,"vault_id":"0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a","host":"h","signer":"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"}`,
		),
	)
	f.Fuzz(func(t *testing.T, data []byte) {
		info, err := parseVaultInfo(data)
		if err != nil {
			if !strings.Contains(err.Error(), vaultFile) {
				t.Errorf("%v names no object", err)
			}
			return
		}
		if !printable(info.Host) || !vaultIDPattern.MatchString(info.ID) || info.Signer == "" {
			t.Errorf("%+v was accepted", info)
		}
	})
}

func FuzzPackStream(f *testing.F) {
	recipients, identities := keys(f)
	pages := bytes.Repeat([]byte("page"), 8*PageSize/4)
	f.Add(compress(f, pages))
	f.Add(compress(f, pages[:PageSize]))
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff, 0x01, 0x00, 0x00})
	f.Fuzz(func(t *testing.T, stream []byte) {
		if err := fillFrom(t, wellBehaved(), sealPack(t, recipients, stream), identities); err != nil &&
			!strings.Contains(err.Error(), "packs/x.age") {
			t.Errorf("%v names no object", err)
		}
	})
}
