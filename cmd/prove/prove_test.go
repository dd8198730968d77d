package main

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestCount(t *testing.T) {
	for name, c := range map[string]struct {
		events           string
		points, failures int
	}{
		"a test that says nothing is a point": {`{"Action":"pass","Test":"TestA"}
{"Action":"pass","Test":"TestB"}
{"Action":"pass"}`, 2, 0},
		"what tests say is added up": {`{"Action":"output","Test":"TestA","Output":"    a_test.go:3: prove: points=133\n"}
{"Action":"output","Test":"TestB","Output":"    a_test.go:9: prove: points=7\n"}
{"Action":"pass","Test":"TestA"}`, 140, 0},
		"rapid": {`{"Action":"output","Test":"TestA","Output":"    a_test.go:3: [rapid] OK, passed 1000 tests (1.2s)\n"}`, 1000, 0},
		"fuzzing says more each time": {`{"Action":"output","Test":"FuzzA",` +
			`"Output":"fuzz: elapsed: 3s, execs: 700 (233/sec), new interesting: 0 (total: 3)\n"}
{"Action":"output","Test":"FuzzA","Output":"fuzz: elapsed: 4s, execs: 1000 (300/sec), new interesting: 1 (total: 4)\n"}`, 1000, 0},
		"words beside the figures": {`{"Action":"output","Test":"TestA","Output":"    a_test.go:3: prove: said=7 told\n"}
{"Action":"pass","Test":"TestA"}`, 1, 0},
		"a failed part is not counted twice": {`{"Action":"fail","Test":"TestA/x"}
{"Action":"fail","Test":"TestA/y"}
{"Action":"fail","Test":"TestA"}
{"Action":"fail","Test":"TestAB"}
{"Action":"fail"}`, 0, 3},
		"a package that failed without a test": {`{"Action":"fail"}`, 0, 1},
	} {
		r, err := count(strings.NewReader(c.events))
		if err != nil || r.Points != c.points || r.Failures != c.failures {
			t.Errorf("%s: %d points, %d failures, %v", name, r.Points, r.Failures, err)
		}
		if said := slices.Equal(r.Said, []string{"7 told"}); said != (name == "words beside the figures") {
			t.Errorf("%s: said %q", name, r.Said)
		}
	}
	if _, err := count(strings.NewReader("panic: no JSON")); err == nil {
		t.Error("what is no JSON was passed over")
	}
}

// A row is replaced in its place, the others stay, and those of scenarios that are
// gone go; so do the words below the table.
func TestUpdate(t *testing.T) {
	list := []scenario{{Name: "one"}, {Name: "two", How: "hard", Not: "three"}, {Name: "four"}}
	page := "before\n" + begin + head + "| four | kept |\n| old | gone |\n| two | replaced |\n" + end + "between\n" +
		saidBegin + "### two\n\n- old words\n\n### old\n\n- gone\n\n### four\n\n- kept\n\n" + saidEnd + "after\n"
	r := result{Points: 5, Failures: 1, Took: 1499 * time.Millisecond, When: time.Date(2026, 4, 7, 6, 0, 0, 0, time.UTC),
		Said: []string{"7 planted", "7 told"}}
	got, err := update(page, list, "two", r)
	want := "before\n" + begin + head + "| two | hard | 5 | 1 | 1s | 2026-04-07 | three |\n| four | kept |\n" +
		end + "between\n" + saidBegin + "### two\n\n- 7 planted\n- 7 told\n\n### four\n\n- kept\n\n" + saidEnd + "after\n"
	if err != nil || got != want {
		t.Errorf("%v\n%s", err, got)
	}
	r.Said = nil
	if got, err = update(got, list, "two", r); err != nil || strings.Contains(got, "### two") {
		t.Errorf("old words stayed: %v\n%s", err, got)
	}
	if _, err := update("no marks", list, "two", r); err == nil {
		t.Error("a page without marks was written")
	}
}

var declared = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)

// The names of tests are strings here: each must still find one, and no fuzz target
// is forgotten.
func TestScenariosFindTheirTests(t *testing.T) {
	targets := 0
	for name, runs := range byPackage() {
		files, err := filepath.Glob(filepath.Join("../..", strings.TrimSuffix(name, "/..."), "*_test.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", name, len(files), err)
		}
		var known []string
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range declared.FindAllStringSubmatch(string(text), -1) {
				known = append(known, m[1])
			}
		}
		for _, run := range runs {
			if !slices.ContainsFunc(known, regexp.MustCompile(run).MatchString) {
				t.Errorf("%s has no test %s", name, run)
			}
		}
		for _, test := range known {
			if strings.HasPrefix(test, "Fuzz") && !strings.HasSuffix(name, "/...") {
				targets++
				if !slices.Contains(runs, "^"+test+"$") {
					t.Errorf("%s: nobody fuzzes %s", name, test)
				}
			}
		}
	}
	if targets != len(fuzzed) {
		t.Errorf("%d fuzz targets were found, %d are named", targets, len(fuzzed))
	}
}

func byPackage() map[string][]string {
	all := map[string][]string{}
	for _, s := range scenarios {
		for _, ts := range s.Tests {
			all[ts.Package] = append(all[ts.Package], ts.Run)
		}
	}
	return all
}

// One real run of go test, on the package that counts.
func TestTry(t *testing.T) {
	r, err := tests{Package: "../../internal/provetest", Run: "^TestPoints$"}.try(context.Background())
	if err != nil || r.Points != 12 || r.Failures != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := (tests{Package: "../../internal/provetest", Run: "^None$"}).try(context.Background()); err == nil {
		t.Error("no test ran, and nobody noticed")
	}
}
