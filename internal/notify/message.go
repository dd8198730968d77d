package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/nicholas-fedor/shoutrrr/pkg/format"
	"github.com/nicholas-fedor/shoutrrr/pkg/router"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"
)

// Level is how much a message matters.
type Level string

// The levels, the gravest first.
const (
	Critical  Level = "critical"
	Warning   Level = "warning"
	Recovered Level = "recovered"
	Info      Level = "info"
)

// Message is what people are told.
type Message struct {
	Title string
	Body  string
	Level Level
}

// look is how services that know priorities show a level: ntfy counts from 1 to
// 5, and turns these tags into emojis.
var look = map[Level]struct{ priority, tags string }{
	Critical:  {"5", "rotating_light"},
	Warning:   {"4", "warning"},
	Recovered: {"2", "white_check_mark"},
	Info:      {"3", "information_source"},
}

// channel is one way to tell somebody.
type channel interface {
	deliver(ctx context.Context, m Message) error
}

// shoutrrr is an address of one of shoutrrr's services.
type shoutrrr string

// deliver makes the service anew for each message: one that is used twice keeps
// what the first message set, such as the title under ntfy.
func (s shoutrrr) deliver(_ context.Context, m Message) error {
	service, err := s.service()
	if err != nil {
		return err
	}
	err = service.Send(m.Body, s.params(m))
	if errors.Is(err, format.ErrInvalidConfigKey) { // it knows no titles
		err = service.Send(m.Title+"\n"+m.Body, &types.Params{})
	}
	// The library drops the type of this error.
	if err != nil && strings.HasSuffix(err.Error(), "unexpected end of JSON input") {
		return nil // taken without a word; to send it again would be a storm
	}
	return err
}

func (s shoutrrr) service() (types.Service, error) {
	return new(router.ServiceRouter).Locate(string(s))
}

// params sets what the service knows of a level: others refuse keys that they do
// not know, and a webhook of one's own gets them all.
func (s shoutrrr) params(m Message) *types.Params {
	p := types.Params{types.TitleKey: m.Title}
	scheme, _, _ := strings.Cut(string(s), ":")
	switch kind, _, _ := strings.Cut(scheme, "+"); kind {
	case "ntfy":
		p["priority"], p["tags"] = look[m.Level].priority, look[m.Level].tags
	case "generic":
		p["level"], p["priority"], p["tags"] = string(m.Level), look[m.Level].priority, look[m.Level].tags
	}
	return &p
}

// command is a program that reads each message on its standard input.
type command []string

func (c command) deliver(ctx context.Context, m Message) error {
	cmd := exec.CommandContext(ctx, c[0], c[1:]...)
	cmd.Stdin = strings.NewReader(m.Title + "\n\n" + m.Body + "\n")
	cmd.Env = append(os.Environ(), "ATOBACKUPD_LEVEL="+string(m.Level), "ATOBACKUPD_TITLE="+m.Title)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	// What it starts ends with it, and cannot hold the output open for ever.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		if said := strings.TrimSpace(output.String()); said != "" {
			err = fmt.Errorf("%w: %s", err, said)
		}
		return err
	}
	return nil
}
