package setup

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/snapshot/chroma"
)

// readable opens a file as whoever reads it will. A FIFO must not hang it.
func readable(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return withAccessHint(path, err)
	}
	return f.Close()
}

// withAccessHint says who could not, and who may.
func withAccessHint(path string, err error) error {
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	owner := ""
	if info, statErr := os.Stat(path); statErr == nil {
		if s, ok := info.Sys().(*syscall.Stat_t); ok {
			owner = fmt.Sprintf(" (%s of user %d, group %d)", info.Mode(), s.Uid, s.Gid)
		}
	}
	return &failure.Error{Subject: "as " + app.UserName(os.Geteuid()) + owner, Kind: failure.Config, Err: err,
		Hint: "give the service its group with SupplementaryGroups=, and the group the right to read"}
}

// writableDir checks that files can be made in a directory, or that it can be
// made itself.
func writableDir(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if parent := filepath.Dir(dir); unix.Faccessat(unix.AT_FDCWD, parent, unix.W_OK|unix.X_OK,
			unix.AT_EACCESS) != nil {
			return &failure.Error{Kind: failure.Config, Err: err,
				Hint: "make it, owned by the user that atobackupd runs as"}
		}
		return nil // it is made when it is first needed
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory", dir)
	}
	if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.R_OK|unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return &failure.Error{Subject: "as " + app.UserName(os.Geteuid()), Kind: failure.Config,
			Err:  &fs.PathError{Op: "write", Path: dir, Err: err},
			Hint: "chown -R " + serviceUser + ": " + dir}
	}
	return nil
}

// chroma checks the directory, and whether the method "live" can take the write
// lock that it needs when Chroma never rests.
func (c *checker) chroma(dir string) {
	if _, err := os.ReadDir(dir); err != nil {
		c.fail("atocore.chroma_path", withAccessHint(dir, err))
		return
	}
	file := filepath.Join(dir, "chroma.sqlite3")
	if err := readable(file); errors.Is(err, fs.ErrNotExist) {
		c.warn("atocore.chroma_path", "there is no chroma.sqlite3 in %s: what is there is copied without a validation",
			dir)
		return
	} else if err != nil {
		c.fail("atocore.chroma_path", err)
		return
	}
	c.chromaMethod(dir)
	if c.cfg.Backup.ChromaMethod != chroma.MethodLive {
		return
	}
	for _, path := range []string{file, dir} { // the journal is made in the directory
		if err := unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK, unix.AT_EACCESS); err != nil {
			c.warn("backup.chroma_method", "\"live\" as %s cannot lock %s for writing (%v): a Chroma that is written "+
				"to without a pause cannot be copied; let the service write there (%s; %s), or use \"api\" or "+
				"\"freeze\"",
				app.UserName(os.Geteuid()), path, err, letGroupLock(dir), letUnitWrite(dir))
			return
		}
	}
}

// letGroupLock is the command that lets the group of Chroma's directory lock its
// database: the lock's journal is made beside it.
func letGroupLock(dir string) string {
	return fmt.Sprintf("sudo chmod g+w %[1]s %[1]s/chroma.sqlite3", dir)
}

// letUnitWrite is the command that opens a directory in the unit's sandbox.
func letUnitWrite(dir string) string {
	const dropIn = "/etc/systemd/system/atobackupd.service.d"
	return fmt.Sprintf("sudo sh -c 'mkdir -p %[1]s && printf \"[Service]\\nReadWritePaths=%[2]s\\n\" "+
		">%[1]s/chroma.conf && systemctl daemon-reload'", dropIn, dir)
}

// chromaMethod checks what the methods need that are not the default.
func (c *checker) chromaMethod(dir string) {
	b := c.cfg.Backup
	key, method := "backup.chroma_method", b.ChromaMethod
	if method == chroma.MethodAPI {
		key, method = "backup.chroma_fallback", b.ChromaFallback
	}
	switch method {
	case "btrfs":
		c.fail(key, chroma.CheckBtrfs(dir))
	case "freeze":
		for key, command := range map[string][]string{"backup.freeze_command": b.FreezeCommand,
			"backup.thaw_command": b.ThawCommand} {
			if _, err := exec.LookPath(command[0]); err != nil {
				c.fail(key, err)
			}
		}
	}
}

// space warns when the next take would be refused.
func (c *checker) space() {
	free, err := fsx.Free(c.cfg.Backup.Dir)
	if err != nil {
		return // not made yet
	}
	if info, err := os.Stat(c.cfg.AtoCore.DBPath); err == nil && free < info.Size()+c.cfg.Backup.MinFree.Bytes() {
		c.warn("backup.dir", "%d MiB are free, less than one snapshot and min_free (%s): the next take will be refused",
			free>>20, c.cfg.Backup.MinFree)
	}
}

// private warns of a secret that others can read.
func (c *checker) private(key, path string) {
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o007 != 0 {
		c.warn(key, "%s can be read by every user: chmod 600 it", path)
	}
}

// target checks what a target needs on this machine.
func (c *checker) target(t config.Target) {
	key := "offsite." + t.Name
	if t.Type == "dir" {
		here, hereErr := fsx.Device(c.cfg.Backup.Dir)
		there, thereErr := fsx.Device(t.Path)
		if hereErr == nil && thereErr == nil && here == there {
			c.warn(key, "%s is on the same disk as the snapshots: one broken disk takes both", t.Path)
		}
		return
	}
	if t.CredentialsFile != "" {
		switch info, err := os.Stat(t.CredentialsFile); {
		case err != nil:
			c.fail(key+".credentials_file", err)
		case info.Mode().Perm()&0o077 != 0: // refused when it is used
			c.fail(key+".credentials_file", fmt.Errorf("%s can be read by others: chmod 600 it", t.CredentialsFile))
		}
	}
	if t.IdentityFile != "" {
		c.fail(key+".identity_file", usableKey(t.IdentityFile))
		c.private(key+".identity_file", t.IdentityFile)
	}
	if t.KnownHosts == "" {
		return
	}
	data, err := os.ReadFile(t.KnownHosts)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.warn(key+".known_hosts", "%v: record the host key with `atobackupd target trust %s`", err, t.Name)
		return
	case err != nil:
		c.fail(key+".known_hosts", err)
		return
	}
	for _, host := range t.Hosts {
		if !knows(data, host, t.Port) {
			c.warn(key+".known_hosts", "%s has no key of %s: record it with `atobackupd target trust %s`", t.KnownHosts,
				host, t.Name)
		}
	}
}

// usableKey checks that a private ssh key can be used by nobody's hands.
func usableKey(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("%w: make it with `ssh-keygen -t ed25519 -N '' -f %s`", err, path)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return fmt.Errorf("%s is not a private ssh key (the public one ends in .pub)", path)
	}
	const magic = "openssh-key-v1\x00\x00\x00\x00\x04none" // then the name of no cipher
	encrypted := strings.Contains(block.Type, "ENCRYPTED") ||
		strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") ||
		block.Type == "OPENSSH PRIVATE KEY" && !bytes.HasPrefix(block.Bytes, []byte(magic))
	if encrypted {
		return fmt.Errorf("%s has a passphrase, and nobody is there to type it: make one without, `ssh-keygen -p -N "+
			"'' -f %s`", path, path)
	}
	return nil
}

// knows reports whether a known_hosts file names a host, in the clear or hashed.
func knows(knownHosts []byte, host string, port int) bool {
	name := host
	if port != 22 && port != 0 {
		name = "[" + host + "]:" + strconv.Itoa(port)
	} else if ip := net.ParseIP(host); ip != nil && ip.To4() == nil {
		name = ip.String()
	}
	lines := bufio.NewScanner(bytes.NewReader(knownHosts))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) > 0 && (fields[0] == "@cert-authority" || fields[0] == "@revoked") {
			fields = fields[1:]
		}
		if len(fields) < 3 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if slices.ContainsFunc(strings.Split(fields[0], ","),
			func(pattern string) bool { return names(pattern, name) }) {
			return true
		}
	}
	return false
}

// names reports whether one pattern of known_hosts is about a host. A hashed one
// is |1|salt|HMAC-SHA1 of the name|.
func names(pattern, name string) bool {
	parts := strings.Split(pattern, "|")
	if len(parts) != 4 || parts[1] != "1" {
		match, err := filepath.Match(pattern, name)
		return pattern == name || err == nil && match
	}
	salt, saltErr := base64.StdEncoding.DecodeString(parts[2])
	want, wantErr := base64.StdEncoding.DecodeString(parts[3])
	mac := hmac.New(sha1.New, salt)
	mac.Write([]byte(name))
	return saltErr == nil && wantErr == nil && hmac.Equal(mac.Sum(nil), want)
}
