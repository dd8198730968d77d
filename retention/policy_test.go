package retention

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// TestPolicyInAVault holds the bytes of a policy: vaults have them, and a policy
// document is written anew when they change.
func TestPolicyInAVault(t *testing.T) {
	p := Policy{
		Daily: 7, Weekly: 4, Monthly: 6, KeepWithin: 48 * time.Hour, Suspect: 30 * Day,
		PreRestore: 30 * Day, Invalid: 7 * Day, MaxDeleteFraction: 0.5,
		Location: zone(t, "Europe/Berlin"), WeekStart: time.Monday,
	}
	const want = `{"daily":7,"weekly":4,"monthly":6,"keep_within":"48h0m0s","pre_restore_days":30,"suspect_days":30,` +
		`"invalid_days":7,"max_delete_fraction":0.5,"timezone":"Europe/Berlin","week_start":"monday"}`
	data, err := json.Marshal(p)
	if err != nil || string(data) != want {
		t.Errorf("%v\ngot  %s\nwant %s", err, data, want)
	}
	var back Policy
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if back.Location.String() != "Europe/Berlin" || back.Check() != nil {
		t.Errorf("the zone is %v, %v", back.Location, back.Check())
	}
	back.Location = p.Location
	if back != p {
		t.Errorf("read back as %+v", back)
	}
}

func TestReadPolicy(t *testing.T) {
	for _, test := range []struct {
		name, json string
		want       Policy
		check      string // part of the error of Check
		err        string // part of the error of reading
	}{
		{
			name: "of version 0.1.0",
			json: `{"daily": 3, "pre_restore_days": 30, "invalid_days": 7, "max_delete_fraction": 0.5,
				"timezone": "UTC"}`,
			want: Policy{Daily: 3, PreRestore: 30 * Day, Invalid: 7 * Day, MaxDeleteFraction: 0.5},
		},
		{name: "nothing in it", json: `{}`},
		{
			name: "days that no duration holds",
			json: `{"invalid_days": 9223372036854775807}`,
			want: Policy{Invalid: 106751 * Day},
		},
		{name: "days below nothing", json: `{"invalid_days": -9223372036854775808}`},
		{
			name:  "a zone of another year",
			json:  `{"daily": 9, "timezone": "Mars/Base"}`,
			want:  Policy{Daily: 9},
			check: "Mars/Base",
		},
		{name: "weeks below nothing", json: `{"daily": 7, "weekly": -1}`, want: Policy{Daily: 7, Weekly: -1},
			check: "weekly must not be below zero"},
		{name: "months below nothing", json: `{"monthly": -9}`, want: Policy{Monthly: -9}, check: "monthly"},
		{name: "days below nothing at all", json: `{"daily": -1}`, want: Policy{Daily: -1}, check: "daily"},
		{name: "an age below nothing", json: `{"keep_within": "-1h"}`, want: Policy{KeepWithin: -time.Hour},
			check: "keep_within"},
		{name: "a guard that never holds", json: `{"max_delete_fraction": 7}`, want: Policy{MaxDeleteFraction: 7},
			check: "from 0 to 1"},
		{name: "a fraction below nothing", json: `{"max_delete_fraction": -0.5}`,
			want: Policy{MaxDeleteFraction: -0.5}, check: "from 0 to 1"},
		{name: "a guard that is off", json: `{"daily": 1, "max_delete_fraction": 1}`,
			want: Policy{Daily: 1, MaxDeleteFraction: 1}},
		{name: "no weekday", json: `{"week_start": "someday"}`, err: `week_start: "someday" is no weekday`},
		{name: "no duration", json: `{"keep_within": "2d"}`, err: "keep_within: "},
		{name: "another type", json: `{"daily": "7"}`, err: "daily"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got Policy
			err := json.Unmarshal([]byte(test.json), &got)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("%v, want %s", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := got.Check(); (err == nil) != (test.check == "") ||
				err != nil && !strings.Contains(err.Error(), test.check) {
				t.Errorf("check: %v, want %q", err, test.check)
			}
			got.Location = nil
			if got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

// TestLengthen is what a signed document may do to the policy of an append-only
// vault: never keep less.
func TestLengthen(t *testing.T) {
	own := Policy{Daily: 7, Weekly: 4, PreRestore: 30 * Day, MaxDeleteFraction: 0.5, WeekStart: time.Monday}
	for _, test := range []struct {
		name     string
		by, want Policy
	}{
		{"shorter", Policy{Daily: 1, PreRestore: Day, MaxDeleteFraction: 1, WeekStart: time.Friday}, own},
		{
			"longer", Policy{Daily: 9, Monthly: 2, KeepWithin: Day, Suspect: Day, Invalid: Day},
			Policy{
				Daily: 9, Weekly: 4, Monthly: 2, KeepWithin: Day, Suspect: Day, PreRestore: 30 * Day, Invalid: Day,
				MaxDeleteFraction: 0.5, WeekStart: time.Monday,
			},
		},
		{"all", Policy{}, Policy{PreRestore: 30 * Day, MaxDeleteFraction: 0.5, WeekStart: time.Monday}},
		{"below nothing", Policy{Daily: -1, Weekly: 1, Invalid: -Day}, own},
	} {
		if got := own.Lengthen(test.by); got != test.want {
			t.Errorf("%s: got %+v, want %+v", test.name, got, test.want)
		}
	}
	if all := (Policy{}).Lengthen(own); !all.KeepsAll() {
		t.Errorf("a policy that keeps everything was shortened: %+v", all)
	}
}
