// Command prove runs the tests that try everything often enough to be believed, and
// writes what was measured into docs/testing.md. It must run in the project's
// directory.
//
//	prove [-only REGEXP] [-jobs N] [-fuzz N] [-list] [PAGE]
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

func prove() int {
	only := flag.String("only", "", "run the scenarios whose name matches; the other rows stay as they are")
	jobs := flag.Int("jobs", 2, "run so many scenarios at the same time")
	executions := flag.Int("fuzz", 0, "give each fuzz target so many executions, for a long night")
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
	var chosen []scenario
	for _, s := range scenarios {
		if wanted.MatchString(s.Name) {
			chosen = append(chosen, s.withExecutions(*executions))
		}
	}
	if *list {
		for _, s := range chosen {
			fmt.Println(s.Name)
		}
		return 0
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return tryAll(ctx, chosen, *jobs, page)
}

// tryAll runs scenarios, some at the same time, and writes the row of each as soon as
// it is known, so that an interruption costs what was running and not all.
func tryAll(ctx context.Context, chosen []scenario, jobs int, page string) (exit int) {
	type outcome struct {
		scenario
		result
		err error
	}
	start := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	next, outcomes := make(chan scenario, len(chosen)), make(chan outcome)
	for _, s := range chosen {
		next <- s
	}
	close(next)
	for range max(jobs, 1) {
		go func() {
			for s := range next {
				r, err := s.try(ctx)
				outcomes <- outcome{s, r, err}
			}
		}()
	}
	for range chosen {
		o := <-outcomes
		if o.err == nil {
			fmt.Printf("%s: %d points, %d failures, %v\n%s", o.Name, o.Points, o.Failures, o.Took.Round(time.Second),
				o.Output)
			o.err = updatePage(page, o.Name, o.result)
		}
		if o.err != nil || o.Failures > 0 {
			exit = 1
		}
		if o.err != nil && ctx.Err() == nil {
			fail(fmt.Errorf("%s: %w", o.Name, o.err))
		}
	}
	fmt.Printf("all of it: %v\n", time.Since(start).Round(time.Second))
	return exit
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, "prove:", err)
	return 1
}
