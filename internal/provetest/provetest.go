// Package provetest has tests count what they try, in the one form that cmd/prove
// reads: an outsider believes "133 points, none failed" sooner than "ok".
package provetest

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// Points logs that a test tried so many points: kills, failures, rounds, races.
// What failed is known from the test itself.
func Points(t testing.TB, points int) {
	t.Helper()
	t.Logf("prove: points=%d", points)
}

// Say logs a sentence that belongs to what a test proved: what was planted, and what
// came of it. It stands below the table of docs/testing.md.
func Say(t testing.TB, format string, a ...any) {
	t.Helper()
	t.Logf("prove: said=%s", strings.Join(strings.Fields(fmt.Sprintf(format, a...)), " "))
}

// Rounds returns how often to try: few times in a plain run of the tests, and as
// often as ATOBACKUPD_ROUNDS says in one that is to prove something.
func Rounds(t testing.TB, few int) int {
	t.Helper()
	const variable = "ATOBACKUPD_ROUNDS"
	text, set := os.LookupEnv(variable)
	if !set {
		return few
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s is %q, not a number from 1", variable, text)
	}
	return n
}
