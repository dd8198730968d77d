package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes the test binary the programs that scripts run, by their names.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"atobackupd": main,
		"sql":        sqlMain,
		"keypair":    keypairMain,
	})
}
