package snapshot

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
	"github.com/atocore/atobackupd/snapshot/chroma"
)

// rot changes a stored file's bytes and nothing else.
func rot(t testing.TB, path string) {
	t.Helper()
	info, err := os.Lstat(path)
	must(t, err)
	data, err := os.ReadFile(path)
	must(t, err)
	data[len(data)/2] ^= 1
	must(t, os.Chmod(path, 0o600))
	must(t, os.WriteFile(path, data, 0o600))
	must(t, os.Chmod(path, info.Mode().Perm()))
	must(t, os.Chtimes(path, info.ModTime(), info.ModTime()))
}

func (in *installation) plan(t testing.TB, snap Snapshot, donors ...Snapshot) RepairPlan {
	t.Helper()
	r, err := in.store.PlanRepair(context.Background(), snap.Stamp, snap.Manifest, asDonors(donors))
	must(t, err)
	return r
}

func asDonors(list []Snapshot) (donors []Donor) {
	for _, d := range list {
		donors = append(donors, Donor{"snapshot " + string(d.Stamp), d.Path, d.Manifest.Files})
	}
	return donors
}

func sources(r RepairPlan) string {
	var b strings.Builder
	for _, f := range r.Files {
		b.WriteString(f.Path + " < " + f.Source + "; ")
	}
	return b.String()
}

func TestRepairFromTwins(t *testing.T) {
	in := installFull(t)
	o := TakeOptions{Kind: Weekly, Full: true, Chroma: chroma.Options{Method: chroma.MethodCold}}
	first, second := in.mustTake(t, o), in.mustTake(t, o)
	segment := ""
	for _, f := range first.Manifest.Files {
		if strings.HasSuffix(f.Path, "data_level0.bin") {
			segment = f.Path
		}
	}
	if r := in.plan(t, first, second); len(r.Files) != 0 || !r.Complete() {
		t.Errorf("nothing is damaged: %+v", r)
	}
	rot(t, filepath.Join(first.Path, segment))
	must(t, os.Remove(filepath.Join(first.Path, RegistryFile)))
	must(t, os.RemoveAll(filepath.Join(first.Path, ChromaDir, filepath.Base(filepath.Dir(segment)), "length.bin")))
	must(t, os.WriteFile(filepath.Join(first.Path, MetadataFile), []byte("{}"), 0o640))
	before := fsxtest.State(t, in.store.Dir())
	r := in.plan(t, first, second)
	twin, dir := "snapshot "+string(second.Stamp), filepath.Dir(segment)
	want := MetadataFile + " < the manifest; " + dir + "/length.bin < " + twin + "; " + RegistryFile + " < " +
		twin + "; " + segment + " < " + twin + "; "
	if len(r.Files) != 4 || !r.Complete() {
		t.Fatalf("plan %s\nwant %s", sources(r), want)
	}
	for _, part := range strings.Split(strings.TrimSuffix(want, "; "), "; ") {
		if !strings.Contains(sources(r), part+"; ") {
			t.Errorf("plan %s lacks %s", sources(r), part)
		}
	}
	if after := fsxtest.State(t, in.store.Dir()); after != before {
		t.Error("the plan changed something")
	}
	must(t, in.store.Repair(context.Background(), r, first.Manifest))
	in.published(t)
	if staged := in.staged(t); staged != "" {
		t.Errorf("left in staging: %s", staged)
	}
	// A twin that has rotted too is none.
	rot(t, filepath.Join(first.Path, segment))
	rot(t, filepath.Join(second.Path, segment))
	if r := in.plan(t, first, second); len(r.Files) != 1 || r.Complete() ||
		r.Files[0].Why != "checksum_mismatch: "+segment {
		t.Errorf("plan %+v", r)
	}
}

// A hard link to the damaged file is as damaged; a later copy is not.
func TestRepairHardLinked(t *testing.T) {
	in := install(t)
	o := TakeOptions{Share: ShareHardlink}
	first := in.mustTake(t, o)
	second := in.mustTake(t, o)
	apart := in.mustTake(t, TakeOptions{})
	rot(t, filepath.Join(first.Path, RegistryFile))
	if in.validate(t, second.Stamp).Valid {
		t.Fatal("they are not linked: the test proves nothing")
	}
	if r := in.plan(t, first, second); r.Complete() {
		t.Errorf("healed from itself: %s", sources(r))
	}
	for _, snap := range []Snapshot{first, second} {
		must(t, in.store.Repair(context.Background(), in.plan(t, snap, second, apart), snap.Manifest))
	}
	in.published(t)
}

// Healing may fail, or die, at each of its steps; it is then run again.
func TestRepairFailing(t *testing.T) {
	in := install(t)
	first, second := in.mustTake(t, TakeOptions{}), in.mustTake(t, TakeOptions{})
	harm := func() {
		rot(t, filepath.Join(first.Path, DBFile))
		must(t, os.RemoveAll(filepath.Join(first.Path, "config")))
	}
	fsxtest.EachFailure(t, func() error {
		harm()
		return in.store.Repair(context.Background(), in.plan(t, first, second), first.Manifest)
	}, func(k int, at string, err error) {
		if err == nil {
			t.Fatalf("failure %d (%s) gave no error", k, at)
		}
		must(t, in.store.Repair(context.Background(), in.plan(t, first, second), first.Manifest))
		in.published(t)
		if staged := in.staged(t); staged != "" {
			t.Fatalf("failure %d (%s) left in staging: %s", k, at, staged)
		}
	})
	in.published(t)
}

// A vault's manifest is trusted more than one that rotted here.
func TestRepairTheManifest(t *testing.T) {
	in := install(t)
	snap, donor := in.mustTake(t, TakeOptions{}), t.TempDir()
	must(t, os.CopyFS(donor, os.DirFS(snap.Path)))
	trusted, err := ReadManifest(donor)
	must(t, err)
	path := filepath.Join(snap.Path, ManifestFile)
	data, err := os.ReadFile(path)
	must(t, err)
	sum := in.entry(t, snap, RegistryFile).SHA256
	must(t, os.WriteFile(path, []byte(strings.Replace(string(data), sum, strings.Repeat("0", 64), 1)), 0o640))
	if in.validate(t, snap.Stamp).Valid {
		t.Fatal("no harm was done")
	}
	vault := []Donor{{"vault", donor, trusted.Files}}
	r, err := in.store.PlanRepair(context.Background(), snap.Stamp, trusted, vault)
	if err != nil || len(r.Files) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	must(t, in.store.Repair(context.Background(), r, trusted))
	in.published(t)
}

func TestRepairStaysInside(t *testing.T) {
	in := install(t)
	snap, outside := in.mustTake(t, TakeOptions{}), t.TempDir()
	must(t, os.RemoveAll(filepath.Join(snap.Path, "config")))
	must(t, os.Symlink(outside, filepath.Join(snap.Path, "config")))
	good := in.mustTake(t, TakeOptions{})
	m := *snap.Manifest
	m.Files = append(
		[]File{
			{
				Path:   "../escaped",
				Type:   TypeFile,
				Size:   in.entry(t, snap, DBFile).Size,
				SHA256: in.entry(t, snap, DBFile).SHA256,
			},
		},
		m.Files...)
	r, err := in.store.PlanRepair(context.Background(), snap.Stamp, &m, asDonors([]Snapshot{good}))
	must(t, err)
	if err := in.store.Repair(context.Background(), r, &m); err == nil ||
		!strings.Contains(err.Error(), "leaves the snapshot") {
		t.Errorf("error %v", err)
	}
	must(t, in.store.Repair(context.Background(), in.plan(t, snap, good), snap.Manifest))
	if left := fsxtest.Tree(t, outside); left != ".\n" {
		t.Errorf("written outside: %s", left)
	}
	in.published(t)
}
