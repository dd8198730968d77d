package snapshot

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// What is damaged in one snapshot is damaged in those that hold the very same file, and
// in no other.
func TestSharing(t *testing.T) {
	for _, test := range []struct {
		name   string
		share  Share
		change func(t *testing.T, in *installation, middle Snapshot)
		want   []int // of the others, by their order
	}{
		{"one file with three names", ShareHardlink, nil, []int{1, 2}},
		{"copies", ShareCopy, nil, nil},
		{"one of them was healed before", ShareHardlink, func(t *testing.T, in *installation, middle Snapshot) {
			path := filepath.Join(middle.Path, RegistryFile)
			data, err := os.ReadFile(path)
			must(t, err)
			must(t, os.Remove(path))
			must(t, os.WriteFile(path, data, 0o600))
		}, []int{2}},
		{"one of them should hold something else", ShareHardlink,
			func(t *testing.T, in *installation, middle Snapshot) {
				must(t, in.store.editManifest("edit", middle.Stamp, func(m *Manifest) bool {
					for i := range m.Files {
						if m.Files[i].Path == RegistryFile {
							m.Files[i].SHA256 = m.Files[i].SHA256[1:] + "0"
						}
					}
					return true
				}))
			}, []int{2}},
		{"one of them was taken invalid", ShareHardlink, func(t *testing.T, in *installation, middle Snapshot) {
			must(t, in.store.editManifest("edit", middle.Stamp, func(m *Manifest) bool {
				m.Validation.Valid = false
				return true
			}))
		}, []int{2}},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := install(t)
			var taken []Snapshot
			for range 3 {
				taken = append(taken, in.mustTake(t, TakeOptions{Share: test.share}))
			}
			if test.change != nil {
				test.change(t, in, taken[1])
			}
			edit(t, filepath.Join(taken[0].Path, RegistryFile), func(data []byte) []byte {
				data[len(data)-2] ^= 1
				return data
			})
			result := in.validate(t, taken[0].Stamp)
			if len(result.Damaged()) != 1 || result.Damaged()[0].Path != RegistryFile {
				t.Fatalf("%+v", result)
			}
			sharing, err := in.store.Sharing(taken[0].Stamp, taken[0].Manifest, result.Damaged())
			must(t, err)
			var want []Stamp
			for _, i := range test.want {
				want = append(want, taken[i].Stamp)
			}
			if got := slices.Sorted(maps.Keys(sharing)); !slices.Equal(got, want) {
				t.Errorf("%v, want %v", sharing, want)
			}
			for stamp, what := range sharing {
				if !slices.Equal(what, []string{"checksum_mismatch: " + RegistryFile}) {
					t.Errorf("%s: %q", stamp, what)
				}
			}
		})
	}
}

// A take is compared with a snapshot whose files are what they were: rot in the newest
// one is no loss of the source, and hides none.
func TestSuspectOfRot(t *testing.T) {
	for _, test := range []struct {
		name   string
		rot    func(data []byte) []byte
		shrink bool
		want   []string
	}{
		{"a name in it rotted", func(data []byte) []byte { data[2] = 'X'; return data }, false, nil},
		{"the lists in it rotted", func(data []byte) []byte { return []byte(`{"proj":[     ]}`) }, true,
			[]string{"registry_shrunk"}},
		{"whole", nil, true, []string{"registry_shrunk"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := install(t)
			must(t, os.WriteFile(in.src.Registry, []byte(`{"proj":[1,2,3]}`), 0o600))
			must(t, os.Chtimes(in.src.Registry, time.Now(), time.Now().Add(-time.Hour)))
			in.mustTake(t, TakeOptions{Share: ShareCopy})
			newest := in.mustTake(t, TakeOptions{Share: ShareCopy})
			if test.rot != nil {
				edit(t, filepath.Join(newest.Path, RegistryFile), test.rot)
			}
			if test.shrink {
				must(t, os.WriteFile(in.src.Registry, []byte(`{"proj":[]}`), 0o600))
			}
			if got := in.mustTake(t, TakeOptions{}); !slices.Equal(got.Suspicions(), test.want) {
				t.Errorf("suspect of %q, want %q: %q", got.Suspicions(), test.want, got.SuspicionTexts())
			}
		})
	}
}
