package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/restore"
)

// A restore that failed says what it moved aside.
func TestFailedRestoreTellsItsWarnings(t *testing.T) {
	var out, problems bytes.Buffer
	c := &cli{stdout: &out, stderr: &problems}
	failed := errors.New("rolled back")
	err := c.emitRestored(failed, restore.Result{Stamp: "20261128T213110Z", Warnings: []string{"moved aside"}})
	if !errors.Is(err, failed) || !strings.Contains(problems.String(), "warning: moved aside\n") || out.Len() > 0 {
		t.Errorf("%v, %q, %q", err, &problems, &out)
	}
}
