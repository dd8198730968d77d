package setup

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Converse asks for what an installation needs and nobody has said yet. Each
// question shows the answer that an empty line stands for; each is a flag of `init`
// too. What can be found out is found out first, and shown.
func (r *InitRequest) Converse(ctx context.Context, in io.Reader, out io.Writer) error {
	q := &questions{in: bufio.NewReader(in), out: out}
	q.say("This sets up the backups of AtoCore. An empty line takes what stands in [].\n")
	if r.DB == "" {
		r.DB = usualDB
	}
	for {
		r.DB = q.ask("AtoCore's database", r.DB)
		if _, err := os.Stat(r.DB); err == nil || q.err != nil {
			break
		}
		q.say("  there is no %s\n", r.DB)
	}
	if q.err == nil {
		if err := r.find(); err != nil {
			return err
		}
	}
	q.say("  registry: %s\n  Chroma:   %s\n", orNothing(r.Registry), orNothing(r.Chroma))
	r.BackupDir = q.ask("Where the snapshots go", r.BackupDir)
	r.findService(ctx)
	r.HealthURL = q.ask("The address that answers while AtoCore runs (none: -)", cmp.Or(r.HealthURL, "-"))
	r.ComposeFile = q.ask("The compose file that stops and starts it (none: -)", cmp.Or(r.ComposeFile, "-"))
	r.HealthURL, r.ComposeFile = dashIsNone(r.HealthURL), dashIsNone(r.ComposeFile)
	if len(r.TargetHosts) == 0 {
		hosts := q.ask("The machine that keeps encrypted copies, by name or address (none: -)", "-")
		r.TargetHosts = strings.Fields(strings.ReplaceAll(dashIsNone(hosts), ",", " "))
	}
	if len(r.TargetHosts) > 0 {
		r.Ordinary = !q.yes("May this machine only add copies there, so that a thief of it cannot delete any",
			!r.Ordinary)
	}
	if len(r.Recipients) == 0 {
		r.DrawerKey = q.yes("Make a second key for a drawer: shown once, on this screen, and kept nowhere", true)
	}
	q.say("\n")
	return q.err
}

func orNothing(s string) string { return cmp.Or(s, "none") }

func dashIsNone(s string) string {
	if s == "-" {
		return ""
	}
	return s
}

// questions asks one after the other. Once an answer cannot be had, the rest are
// not asked, and err says why.
type questions struct {
	in  *bufio.Reader
	out io.Writer
	err error
}

func (q *questions) say(format string, args ...any) {
	if q.err == nil {
		fmt.Fprintf(q.out, format, args...)
	}
}

func (q *questions) ask(question, usual string) string {
	q.say("%s [%s]: ", question, usual)
	if q.err != nil {
		return usual
	}
	line, err := q.in.ReadString('\n')
	if err != nil {
		q.err = errors.New("the conversation ended: nothing was made")
		return usual
	}
	return cmp.Or(strings.TrimSpace(line), usual)
}

func (q *questions) yes(question string, usual bool) bool {
	word := "no"
	if usual {
		word = "yes"
	}
	for {
		switch answer := strings.ToLower(q.ask(question+"?", word)); {
		case q.err != nil:
			return usual
		case answer == "y" || answer == "yes":
			return true
		case answer == "n" || answer == "no":
			return false
		}
		q.say("  yes or no, please\n")
	}
}
