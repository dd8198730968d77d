package dir

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// A disk that is away is unreachable, whatever its mount point looks like, and
// nothing is made on the bare one.
func TestRemovableDisk(t *testing.T) {
	point := filepath.Join(t.TempDir(), "disk")
	vault := filepath.Join(point, "vault")
	table := filepath.Join(t.TempDir(), "fstab")
	if err := os.WriteFile(table, []byte("# what\n/dev/sdz1 "+point+" ext4 noauto 0 0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	mount := func() {
		t.Helper()
		if err := syscall.Mount("tmpfs", point, "tmpfs", 0, "size=1m"); err != nil {
			t.Fatalf("mounting a small tmpfs, which needs root: %v", err)
		}
	}
	unmount := func() { syscall.Unmount(point, syscall.MNT_DETACH) }
	t.Cleanup(unmount)
	const ok, gone = failure.Other, failure.Unreachable
	for _, c := range []struct {
		what             string
		prepare          func()
		fstab            string
		hasVault, create bool
		want             failure.Kind
		made             bool // vault exists afterwards
	}{
		{"no mount point, first use", func() {}, "", false, true, gone, false},
		{"bare mount point that fstab names", func() { os.Mkdir(point, 0o755) }, table, false, true, gone, false},
		{"bare mount point, first use", func() {}, "", false, true, gone, false},
		{"mounted, first use, looking only", mount, table, false, false, failure.NotFound, false},
		{"mounted, first use", func() {}, table, false, true, ok, true},
		{"mounted, a vault was made and is not there", func() {}, table, true, false, gone, true},
		{
			"mounted with its vault", func() { os.WriteFile(filepath.Join(vault, "vault.json"), nil, 0o600) },
			table, true, false, ok, true,
		},
		{"unplugged", unmount, "", true, false, gone, false},
		{"unplugged, and somebody made the directory", func() { os.Mkdir(vault, 0o755) }, "", true, false, gone, true},
	} {
		c.prepare()
		fstab = c.fstab
		r, err := OpenRemovable(vault, c.hasVault, c.create, tree.Trusted(""))
		if err == nil {
			r.Close()
		}
		if failure.KindOf(err) != c.want || (err == nil) != (c.want == ok) {
			t.Errorf("%s: %v (kind %d), want kind %d", c.what, err, failure.KindOf(err), c.want)
		}
		if _, err := os.Lstat(vault); (err == nil) != c.made {
			t.Errorf("%s: afterwards %v", c.what, err)
		}
	}
	fstab = "/etc/fstab"
}
