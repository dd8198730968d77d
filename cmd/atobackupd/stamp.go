package main

import (
	"context"
	"time"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/snapshot"
)

// latest stands for the newest snapshot that counts, wherever a stamp goes.
const latest = "latest"

// checkStamp refuses a word of the command line that is no stamp, before anything is
// opened.
func checkStamp(word string) error {
	if word == latest {
		return nil
	}
	_, err := snapshot.ParseStamp(word)
	return err
}

// stampOf returns the stamp that a word of the command line means.
func stampOf(ctx context.Context, a *app.App, word string) (snapshot.Stamp, error) {
	if word != latest {
		return snapshot.ParseStamp(word)
	}
	s, err := a.Find(ctx, word, time.Now())
	return s.Stamp, err
}
