package config

import (
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	tests := []struct {
		text string
		want time.Duration
		show string
	}{
		{"", 0, "0"},
		{"0", 0, "0"},
		{"0s", 0, "0"},
		{"250ms", 250 * time.Millisecond, "250ms"},
		{"90s", 90 * time.Second, "90s"},
		{"60s", time.Minute, "1m"},
		{"15m", 15 * time.Minute, "15m"},
		{"26h", 26 * time.Hour, "26h"},
		{"8d", 8 * 24 * time.Hour, "8d"},
		{"2w", 14 * 24 * time.Hour, "14d"},
		{"1h30m", 90 * time.Minute, "90m"},
		{"1d12h", 36 * time.Hour, "36h"},
		{"106751d", 106751 * 24 * time.Hour, "106751d"},
	}
	for _, test := range tests {
		got, err := ParseDuration(test.text)
		if err != nil || got.Std() != test.want || got.String() != test.show {
			t.Errorf("%q: %v %q %v, want %v %q", test.text, got.Std(), got, err, test.want, test.show)
		}
		if again, err := ParseDuration(got.String()); again != got || err != nil {
			t.Errorf("%q: its text %q means %v, %v", test.text, got, again, err)
		}
	}
	for _, bad := range []string{
		"15", "-5m", "+5m", "1.5h", "5 m", "m", "5M", "5us", "1y", "5m ", " 5m", "5m3", "٣m",
		"106752d", "99999999999999999999s", "106751d24h",
	} {
		if got, err := ParseDuration(bad); err == nil {
			t.Errorf("%q is taken for %v", bad, got)
		}
	}
}

func TestLimit(t *testing.T) {
	for _, text := range []string{"off", "26h", "8d", "100d"} {
		var l Limit
		if err := l.UnmarshalText([]byte(text)); err != nil || l.String() != text {
			t.Errorf("%q becomes %q, %v", text, l, err)
		}
		if off := text == "off"; off != (l.Std() == 0) {
			t.Errorf("%q: Std is %v", text, l.Std())
		}
	}
	for _, text := range []string{"", "0", "0s", "0d0h", "Off", "never", "5"} {
		if err := new(Limit).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
	if got := Limit(0).String(); got != "off" {
		t.Errorf("never set: %q", got)
	}
}
