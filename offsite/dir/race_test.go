package dir

import (
	"context"
	"crypto/rand"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/internal/forktest"
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
)

func TestMain(m *testing.M) {
	os.Exit(forktest.Main(m.Run, map[string]forktest.Role{"exchange": forktest.JSON(forktest.BeExchanger)}))
}

// The account that a host ships to owns packs/ and incoming/: while it exchanges
// them for links to a victim, whatever is done there is done in the vault or fails.
func TestExchangedDirectories(t *testing.T) {
	for _, target := range []string{"packs", "incoming"} {
		t.Run(target, func(t *testing.T) {
			root, victim := t.TempDir(), t.TempDir()
			for _, dir := range []string{
				filepath.Join(root, target), filepath.Join(root, "trash"), filepath.Join(victim, "sub"),
			} {
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			const secret = "what only the victim has"
			for _, name := range []string{"secret", "sub/secret"} {
				if err := os.WriteFile(filepath.Join(victim, name), []byte(secret), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Symlink(victim, filepath.Join(root, "link")); err != nil {
				t.Fatal(err)
			}
			before := fsxtest.State(t, victim)
			hostile := forktest.StartWhen(t, "exchanging", forktest.Command("exchange",
				forktest.Exchange{A: filepath.Join(root, target), B: filepath.Join(root, "link")}))
			r := open(t, root)
			done, failed := 0, 0
			count := func(err error) {
				if err == nil {
					done++
				} else {
					failed++
				}
			}
			ctx := context.Background()
			for n := 0; n < 400 || (done < 100 || failed < 100) && n < 20_000; n++ {
				name := "packs/" + rand.Text()
				_, err := r.Put(ctx, name, strings.NewReader("data"))
				count(err)
				count(r.Move(ctx, target+"/secret", "trash/"+rand.Text()))
				count(r.Remove(ctx, target+"/sub/secret"))
				count(r.Move(ctx, name, "trash/"+rand.Text()))
				if list, err := r.List(ctx, target); err == nil && len(list) > 0 && list[len(list)-1].Name == "sub" {
					t.Fatal("the victim was listed")
				}
				if f, err := r.Open(ctx, target+"/secret"); err == nil {
					data, _ := io.ReadAll(f)
					f.Close()
					t.Fatalf("the victim was read: %q", data)
				}
			}
			exchanges := hostile.StopExchanging()
			if after := fsxtest.State(t, victim); after != before {
				t.Errorf("the victim was\n%s\nand is\n%s", before, after)
			}
			if done < 100 || failed < 100 || exchanges < 1000 {
				t.Errorf("no race: %d were done, %d failed, %d exchanges", done, failed, exchanges)
			}
			t.Logf("%d done, %d failed, %d exchanges", done, failed, exchanges)
		})
	}
}
