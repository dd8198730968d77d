package offsite_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/offsite"
)

func TestListingIsBounded(t *testing.T) {
	var many offsite.Listing
	for i := range offsite.MaxEntries {
		if err := many.Add(offsite.Entry{Name: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := many.Add(offsite.Entry{Name: "more"}); !errors.Is(err, offsite.ErrEndless) {
		t.Errorf("one more than %d: %v", offsite.MaxEntries, err)
	}
	var long offsite.Listing
	name := strings.Repeat("n", 255)
	for i := range offsite.MaxNames / len(name) {
		if err := long.Add(offsite.Entry{Name: name}); err != nil {
			t.Fatalf("name %d: %v", i, err)
		}
	}
	if err := long.Add(offsite.Entry{Name: name}); !errors.Is(err, offsite.ErrEndless) {
		t.Errorf("names of more than %d bytes: %v", offsite.MaxNames, err)
	}
}

// Some servers have answered names that they hoped would lead somewhere.
func TestListingRefusesWhatIsNoName(t *testing.T) {
	for _, name := range []string{"", ".", "..", "a/b", "/", "a/..", "nul\x00", "not \xff UTF-8"} {
		if err := new(offsite.Listing).Add(offsite.Entry{Name: name}); err == nil {
			t.Errorf("%q was taken", name)
		}
	}
}

func TestListingIsSorted(t *testing.T) {
	var l offsite.Listing
	for _, name := range []string{"b", "a", "C"} {
		if err := l.Add(offsite.Entry{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	if got := fmt.Sprint(l.Sorted()); strings.Index(got, "C") > strings.Index(got, "a") ||
		strings.Index(got, "a") > strings.Index(got, "b") {
		t.Error(got)
	}
}
