package config

import "testing"

func TestParseSize(t *testing.T) {
	tests := []struct {
		text string
		want int64
		show string
	}{
		{"", 0, "0"},
		{"0", 0, "0"},
		{"1", 1, "1"},
		{"1500", 1500, "1500"},
		{"1024B", 1024, "1KiB"},
		{"512MiB", 512 << 20, "512MiB"},
		{"1024MiB", 1 << 30, "1GiB"},
		{"50 GiB", 50 << 30, "50GiB"},
		{"8388607TiB", 8388607 << 40, "8388607TiB"},
	}
	for _, test := range tests {
		got, err := ParseSize(test.text)
		if err != nil || got.Bytes() != test.want || got.String() != test.show {
			t.Errorf("%q: %d %q %v, want %d %q", test.text, got, got, err, test.want, test.show)
		}
		if again, err := ParseSize(got.String()); again != got || err != nil {
			t.Errorf("%q: its text %q means %v, %v", test.text, got, again, err)
		}
	}
	for _, bad := range []string{"-1", "1GB", "1G", "1gib", "1.5GiB", "GiB", "1  GiB", "8388608TiB",
		"9223372036854775808"} {
		if got, err := ParseSize(bad); err == nil {
			t.Errorf("%q is taken for %d", bad, got)
		}
	}
}
