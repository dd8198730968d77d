package main

import (
	"context"
	"time"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/snapshot"
)

// latest stands for the newest snapshot that counts, wherever a stamp goes.
const latest = "latest"

// stampOf returns the stamp that a word of the command line means.
func stampOf(ctx context.Context, a *app.App, word string) (snapshot.Stamp, error) {
	if word != latest {
		return snapshot.ParseStamp(word)
	}
	s, err := a.Find(ctx, word, time.Now())
	return s.Stamp, err
}
