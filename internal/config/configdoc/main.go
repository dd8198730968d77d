// Command configdoc writes docs/configuration.md from the doc comments of
// package config, so that the page cannot say anything else than the source. It
// is run by go generate; a test fails when the page is stale.
package main

import (
	"fmt"
	"os"
)

//go:generate go run . .. ../../../docs/configuration.md

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: configdoc SOURCE-DIRECTORY PAGE")
		os.Exit(2)
	}
	text, err := page(os.DirFS(os.Args[1]))
	if err == nil {
		err = os.WriteFile(os.Args[2], []byte(text), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "configdoc:", err)
		os.Exit(1)
	}
}
