// Command prove runs the tests that try everything often enough to be believed, and
// writes what was measured into docs/testing.md. It must run in the project's
// directory.
//
//	prove [-only REGEXP] [-list] [PAGE]
//
// The files: scenarios.go is the list of what is tried, run.go runs one of them,
// page.go writes the table.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

func main() { os.Exit(prove()) }

func prove() (exit int) {
	only := flag.String("only", "", "run the scenarios whose name matches; the other rows stay as they are")
	list := flag.Bool("list", false, "show the scenarios")
	flag.Parse()
	page := "docs/testing.md"
	if flag.NArg() > 0 {
		page = flag.Arg(0)
	}
	wanted, err := regexp.Compile("(?i)" + *only)
	if err != nil {
		return fail(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	for _, s := range scenarios {
		if !wanted.MatchString(s.Name) {
			continue
		}
		if *list {
			fmt.Println(s.Name)
			continue
		}
		fmt.Printf("%s … ", s.Name)
		r, err := s.try(ctx)
		if err != nil {
			return fail(fmt.Errorf("%s: %w", s.Name, err))
		}
		fmt.Printf("%d points, %d failures, %v\n", r.Points, r.Failures, r.Took.Round(time.Second))
		if r.Failures > 0 {
			fmt.Println(r.Output)
			exit = 1
		}
		// Row by row, so that an interruption costs one scenario and not all.
		if err := updatePage(page, s.Name, r); err != nil {
			return fail(err)
		}
	}
	return exit
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, "prove:", err)
	return 1
}
