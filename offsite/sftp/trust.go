package sftp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/atocore/atobackupd/internal/failure"
)

// Trust fetches the host key of the first of cfg.Hosts that answers, and trusts
// it in nothing: it does not log in. A person compares the fingerprint, as
// ssh-keygen -l shows it, with the machine's own; only then do the lines belong
// into known_hosts (AppendKnownHosts). They give the key to all of cfg.Hosts,
// since those are names of one machine; with OpenSSH they name it as ssh_config
// does, and only the host that answered.
func Trust(ctx context.Context, cfg Config) (fingerprint string, lines []string, err error) {
	if cfg.KnownHosts == "" {
		cfg.KnownHosts = os.DevNull
	}
	if cfg, err = cfg.withDefaults(); err != nil {
		return "", nil, err
	}
	fetch := fetchKey
	if cfg.Transport == OpenSSH {
		fetch = fetchKeyBySSH
	}
	got, err := firstHost(
		ctx, cfg, func(ctx context.Context, host string) (shown, error) { return fetch(ctx, cfg, host) },
	)
	if err != nil {
		return "", nil, err
	}
	return got.key.Type() + " " + ssh.FingerprintSHA256(got.key), got.lines, nil
}

// Contradiction returns what known_hosts has against the key of lines, which Trust has
// returned: another key of the same type for one of cfg.Hosts; nil where it has nothing.
func Contradiction(cfg Config, lines []string) error {
	_, _, key, _, _, err := ssh.ParseKnownHosts([]byte(strings.Join(lines, "\n")))
	if err != nil {
		return nil // nothing was shown that could be contradicted
	}
	for _, host := range cfg.Hosts {
		keys, err := readKnownHosts(cfg.KnownHosts, cfg.address(host), cfg)
		if err != nil {
			continue // it has none
		}
		sameType := func(known ssh.PublicKey) bool { return known.Type() == key.Type() }
		same := func(known ssh.PublicKey) bool { return bytes.Equal(known.Marshal(), key.Marshal()) }
		if slices.ContainsFunc(keys.known, sameType) && !slices.ContainsFunc(keys.known, same) {
			return keys.changed(key.Type() + " " + ssh.FingerprintSHA256(key))
		}
	}
	return nil
}

// shown is a host key and the lines that would trust it.
type shown struct {
	key   ssh.PublicKey
	lines []string
}

// errSeen ends a handshake once the key has been shown and proved.
var errSeen = errors.New("the host key was seen")

// fetchKey asks for the key types that people compare most easily, in order.
func fetchKey(ctx context.Context, cfg Config, host string) (shown, error) {
	var seen ssh.PublicKey
	_, _, err := handshake(ctx, cfg.address(host), &ssh.ClientConfig{
		HostKeyAlgorithms: []string{
			ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
			ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256,
		},
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			seen = key
			return errSeen
		},
	})
	if seen == nil {
		return shown{}, err
	}
	var addresses []string
	for _, host := range cfg.Hosts {
		addresses = append(addresses, cfg.address(host))
	}
	return shown{seen, []string{knownhosts.Line(addresses, seen)}}, nil
}

// fetchKeyBySSH lets the ssh program find the way, through jump hosts too, and
// write the key it meets to a file that is then thrown away.
func fetchKeyBySSH(ctx context.Context, cfg Config, host string) (shown, error) {
	dir, err := os.MkdirTemp("", "atobackupd-trust-")
	if err != nil {
		return shown{}, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "known_hosts")
	// The first value of an option wins, so these stand before the usual ones.
	args := []string{
		"-o", "StrictHostKeyChecking=accept-new", "-o", "UserKnownHostsFile=" + file, "-o",
		"GlobalKnownHostsFile=/dev/null", "-o", "HashKnownHosts=no", "-o", "PreferredAuthentications=none",
		"-o", "ControlPath=none",
	}
	out, err := exec.CommandContext(ctx, "ssh", append(args, sshArguments(cfg, host)...)...).CombinedOutput()
	data, readErr := os.ReadFile(file)
	if readErr != nil {
		said := &tail{}
		said.Write(out)
		return shown{}, classifySSH(ctx, said.lines(), err, err, cfg)
	}
	_, _, key, _, _, err := ssh.ParseKnownHosts(data)
	return shown{key, strings.Split(strings.TrimSpace(string(data)), "\n")}, err
}

// AppendKnownHosts adds lines to a known_hosts file, durably, and leaves out
// those that it has already. A missing file is made; its directory is not.
func AppendKnownHosts(path string, lines []string) (err error) {
	defer func() {
		if err != nil {
			err = &failure.Error{Op: "trust", Subject: path, Err: err}
		}
	}()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	old, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(f, missingLines(string(old), lines)); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// missingLines returns what must follow old so that it has all lines.
func missingLines(old string, lines []string) string {
	var add strings.Builder
	if old != "" && !strings.HasSuffix(old, "\n") {
		add.WriteString("\n")
	}
	for _, line := range lines {
		if !strings.Contains("\n"+old+"\n", "\n"+line+"\n") {
			fmt.Fprintln(&add, line)
		}
	}
	return add.String()
}
