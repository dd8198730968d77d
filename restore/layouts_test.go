package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/forktest"
	"github.com/atocore/atobackupd/internal/fsx"
)

// TestReadOnlyMounts refuses, before anything is touched, what the swap could not
// write.
func TestReadOnlyMounts(t *testing.T) { runInNamespace(t, "readonly") }

// TestOverlay restores over a store in a lower layer, where no directory can be
// renamed, and takes such a restore back.
func TestOverlay(t *testing.T) { runInNamespace(t, "overlay") }

func readOnlyMain([]byte) error {
	dir, err := forktest.Room()
	if err != nil {
		return err
	}
	s, err := makeScene(filepath.Join(dir, "base"))
	if err != nil {
		return err
	}
	old, err := s.print()
	if err != nil {
		return err
	}
	live := s.live()
	for _, path := range []string{live.Registry, live.DB, filepath.Dir(live.DB), live.Chroma, s.backups()} {
		want := "cannot be written"
		if path == s.backups() {
			want = "what is live now could not be saved: mount it writable"
		}
		err := errors.Join(
			forktest.BindOver(path),
			unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""),
		)
		if err != nil {
			return err
		}
		r, err := s.request()
		if err != nil {
			return err
		}
		plan, err := NewPlan(context.Background(), r)
		if err != nil {
			return fmt.Errorf("%s: plan: %w", path, err)
		}
		plan.Close()
		_, err = Run(context.Background(), r)
		for what, err := range map[string]error{"dry run": plan.Err(), "restore": err} {
			if failure.KindOf(err) != failure.Refused || !strings.Contains(err.Error(), want) {
				return fmt.Errorf("%s of a read-only %s: got %v", what, path, err)
			}
		}
		if err := unix.Unmount(path, 0); err != nil {
			return err
		}
		if now, err := s.print(); err != nil || now != old || exists(journalPath(s.backups())) {
			return fmt.Errorf("%s: something was touched: %v", path, err)
		}
		fmt.Printf("%s: refused\n", filepath.Base(path))
	}
	return nil
}

func overlayMain([]byte) error {
	dir, err := forktest.Room()
	if err != nil {
		return err
	}
	s, err := makeScene(filepath.Join(dir, "base"))
	if err != nil {
		return err
	}
	live, lower := filepath.Join(s.base, "live"), filepath.Join(dir, "lower")
	if err := os.Rename(live, lower); err != nil {
		return err
	}
	// mount lays a fresh upper layer over the old store.
	layers := 0
	mount := func() error {
		layers++
		upper, work := fmt.Sprintf("%s/upper%d", dir, layers), fmt.Sprintf("%s/work%d", dir, layers)
		err := errors.Join(os.Mkdir(upper, 0o755), os.Mkdir(work, 0o755), os.MkdirAll(live, 0o755))
		if err != nil {
			return err
		}
		options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", lower, upper, work)
		return unix.Mount("overlay", live, "overlay", 0, options)
	}
	if err := mount(); err != nil {
		return err
	}
	old, err := s.print()
	if err != nil {
		return err
	}
	outcomes := map[string]int{}
	for k := 0; ; k++ {
		r, err := s.request()
		if err != nil {
			return err
		}
		r.NoPreSnapshot = k > 0
		calls := 0
		stop := fsx.Observe(func(fsx.Op, string) error {
			if calls == 0 {
				if j, err := pendingIn(s.backups()); err != nil || j == nil || j.Phase != PhaseSwapping {
					return nil
				}
			}
			if calls++; calls == k {
				return errors.New("injected")
			}
			return nil
		})
		res, err := Run(context.Background(), r)
		stop()
		if exists(journalPath(s.backups())) {
			if res, err = Resume(context.Background(), resumeOptions(r.Store)); err != nil {
				return fmt.Errorf("call %d failed, then resume: %w", k, err)
			}
		}
		now, printErr := s.print()
		switch {
		case printErr != nil:
			return printErr
		case res.DBRestored && strings.Contains(now, "chroma/only-new.bin") && strings.Contains(
			now,
			"chroma/seg/deep/x",
		) &&
			!strings.Contains(now, "chroma/only-old.bin") && !strings.Contains(now, "chroma/seg/more"):
			outcomes["new"]++
		case k > 0 && err != nil && now == old:
			outcomes["old"]++
		default:
			return fmt.Errorf("call %d: %+v, %w:\n%s", k, res, err, now)
		}
		if k > 0 && calls < k {
			break
		}
		if err := errors.Join(unix.Unmount(live, 0), mount()); err != nil {
			return err
		}
	}
	if outcomes["new"] < 2 || outcomes["old"] < 5 {
		return fmt.Errorf("hardly anything was tested: %v", outcomes)
	}
	fmt.Println(outcomes)
	return nil
}
