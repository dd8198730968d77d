package sqlite

import (
	"os"
	"path/filepath"
	"testing"
)

func TestSpareMemory(t *testing.T) {
	const mib = 1 << 20
	for _, test := range []struct {
		name  string
		files map[string]string
		want  int64
	}{
		{name: "nothing is told"},
		{
			name:  "no cgroup",
			want:  1000 * mib,
			files: map[string]string{"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:    1024000 kB\n"},
		},
		{name: "no limit", want: 1000 * mib, files: map[string]string{"proc/meminfo": "MemAvailable: 1024000 kB\n",
			"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "max\n",
			"sys/fs/cgroup/a/b/memory.current": "5\n"}},
		{name: "a limit, and pages that it would give back", want: 182 * mib,
			files: map[string]string{"proc/meminfo": "MemAvailable: 1024000 kB\n",
				"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "201326592\n",
				"sys/fs/cgroup/a/b/memory.current": "104857600\n",
				"sys/fs/cgroup/a/b/memory.stat":    "anon 7\ninactive_file 52428800\nactive_file 41943040\n"}},
		{name: "a limit further up", want: 64 * mib,
			files: map[string]string{"proc/meminfo": "MemAvailable: 1024000 kB\n",
				"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "201326592\n",
				"sys/fs/cgroup/a/memory.max": "67108864\n"}},
		{name: "more is used than allowed", want: 0,
			files: map[string]string{"proc/meminfo": "MemAvailable: 1024000 kB\n",
				"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "10\n",
				"sys/fs/cgroup/memory.current": "20\n"}},
		{name: "version 1", want: 100 * mib, files: map[string]string{"proc/meminfo": "MemAvailable: 1024000 kB\n",
			"proc/self/cgroup": "5:cpu:/a\n4:memory:/a\n",
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "209715200\n",
			"sys/fs/cgroup/memory/a/memory.usage_in_bytes": "104857600\n"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			for name, text := range test.files {
				path := filepath.Join(root, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got := spareMemory(root); got != test.want {
				t.Errorf("%d, want %d", got, test.want)
			}
		})
	}
}
