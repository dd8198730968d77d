package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// scenario is one row of the table: what is tried, how, and where its proof ends.
type scenario struct {
	Name  string // what is tried
	How   string // what is done to it
	Not   string // what it does not prove
	Tests []tests
}

// tests are some tests of one package, in one run of go test.
type tests struct {
	Package string
	Run     string   // a regular expression, as go test -run has it
	Env     []string // how often, and with what
	Args    []string // for the test binary
	Fuzz    int      // executions of the fuzz target that Run names
	Race    bool     // under the race detector
}

// result is what came of a scenario.
type result struct {
	Points   int
	Failures int
	Took     time.Duration
	When     time.Time
	Output   string   // of the tests that failed
	Said     []string // what the tests have to say beside the figures
}

// withExecutions is the scenario with so many executions of each fuzz target; 0 leaves
// it as it is.
func (s scenario) withExecutions(n int) scenario {
	if n > 0 {
		s.Tests = slices.Clone(s.Tests)
		for i := range s.Tests {
			if s.Tests[i].Fuzz > 0 {
				s.Tests[i].Fuzz = n
			}
		}
	}
	return s
}

// try runs a scenario. An error is that it could not be run; that it failed is
// part of the result.
func (s scenario) try(ctx context.Context) (result, error) {
	start := time.Now()
	sum := result{When: start}
	for _, tests := range s.Tests {
		one, err := tests.try(ctx)
		if err != nil {
			return result{}, fmt.Errorf("%s: %w", tests.Package, err)
		}
		sum.Points += one.Points
		sum.Failures += one.Failures
		sum.Output += one.Output
		sum.Said = append(sum.Said, one.Said...)
	}
	sum.Took = time.Since(start)
	return sum, nil
}

func (ts tests) try(ctx context.Context) (result, error) {
	cmd := exec.CommandContext(ctx, "go", ts.args()...)
	cmd.Env = append(os.Environ(), ts.Env...)
	if ts.Race { // which is written in C
		cmd.Env = append(cmd.Env, "CGO_ENABLED=1")
	}
	// go test ends the test binaries that it started when it is interrupted itself.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		return result{}, ctx.Err()
	}
	r, readErr := count(&stdout)
	var exit *exec.ExitError
	switch {
	case readErr != nil:
		return result{}, readErr
	case err != nil && !errors.As(err, &exit):
		return result{}, err
	case err != nil && r.Failures == 0: // it did not build, say
		return result{}, fmt.Errorf("%w: %s%s", err, r.Output, stderr.Bytes())
	case r.Points == 0 && r.Failures == 0:
		return result{}, fmt.Errorf("no test matches %q", ts.Run)
	}
	return r, nil
}

func (ts tests) args() []string {
	args := []string{"test", "-json", "-count=1", "-timeout=60m", "-tags=rig", "-run=" + ts.Run}
	if ts.Fuzz > 0 {
		args = append(args, "-fuzz="+ts.Run, fmt.Sprintf("-fuzztime=%dx", ts.Fuzz))
	}
	if ts.Race {
		args = append(args, "-race")
	}
	return append(append(args, ts.Package), ts.Args...)
}

// event is a line of go test -json.
type event struct{ Action, Test, Output string }

// The forms in which tests say how much they tried: package provetest's, that of
// fuzzing and that of rapid.
var (
	said       = regexp.MustCompile(`prove: said=(.*)`)
	pointsSaid = regexp.MustCompile(`prove: points=(\d+)`)
	execsSaid  = regexp.MustCompile(`^fuzz: elapsed: .*, execs: (\d+) `)
	rapidSaid  = regexp.MustCompile(`\[rapid\] OK, passed (\d+) tests`)
)

// count reads what go test -json wrote. Where no test said how much it tried, each
// that passed is one point; one that failed counts where it has no failed part.
func count(events io.Reader) (result, error) {
	points, execs, passed := 0, 0, 0
	var words []string
	failed := map[string]bool{}
	output := map[string]string{}
	lines := bufio.NewScanner(events)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return result{}, fmt.Errorf("go test -json wrote %q: %w", lines.Text(), err)
		}
		switch e.Action {
		case "output":
			output[e.Test] += e.Output
			points += number(pointsSaid, e.Output) + number(rapidSaid, e.Output)
			if m := said.FindStringSubmatch(e.Output); m != nil {
				words = append(words, m[1])
			}
			execs = max(execs, number(execsSaid, e.Output))
		case "pass":
			if e.Test != "" {
				passed++
			}
		case "fail":
			failed[e.Test] = true
		}
	}
	r := result{Points: points + execs, Said: words}
	if r.Points == 0 {
		r.Points = passed
	}
	for test := range failed {
		if !hasFailedPart(failed, test) {
			r.Failures++
			r.Output += output[test]
		}
	}
	return r, lines.Err()
}

// hasFailedPart reports whether a subtest of the test failed too; a package, whose
// name is "", has all tests as parts.
func hasFailedPart(failed map[string]bool, test string) bool {
	for other := range failed {
		if other != test && (test == "" || strings.HasPrefix(other, test+"/")) {
			return true
		}
	}
	return false
}

func number(form *regexp.Regexp, text string) int {
	m := form.FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1])
	return n
}
