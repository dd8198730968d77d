//go:build rig

package systemd_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// The test binary is its own probe: it is copied into the guest and run there
// with the name of one thing to try.

const (
	open    = "/srv/open" // writable to everybody, and no business of the service's
	backups = "/srv/storage/atocore/backups"
)

// probes are what the sandbox must refuse, and what the same user may do without
// it.
var probes = map[string]func() error{
	"write-elsewhere": func() error { return os.WriteFile(open+"/written", nil, 0o600) },
	"read-shadow":     func() error { return read("/etc/shadow") },
	"read-ssh-key":    func() error { return read("/etc/ssh/ssh_host_test_key") },
	"read-root":       func() error { return read("/root/secret") },
	"read-home":       func() error { return read("/home/someone/secret") },
	"read-logs":       func() error { return read("/var/log/secret") },
	"see-tmp":         func() error { return read("/tmp/secret") },
	"docker-socket":   func() error { return dial("/run/docker.sock") },
	"see-processes":   func() error { return read("/proc/1/status") },
	"run-program":     func() error { return exec.Command(open+"/program", "nothing").Run() },
	"see-device":      func() error { return read("/dev/marker") },
	"netlink":         func() error { return socket(unix.AF_NETLINK, unix.SOCK_RAW) },
	"user-namespace":  func() error { return exec.Command("/usr/bin/unshare", "-U", "/bin/true").Run() },
	"write-and-run":   writeAndRun,
	"own-chown": func() error {
		return inBackups(func(p string) error {
			return os.Chown(p, os.Getuid(),
				os.Getgid())
		})
	},
	"setgid":       func() error { return inBackups(func(p string) error { return unix.Chmod(p, 0o2755) }) },
	"set-priority": func() error { return unix.Setpriority(unix.PRIO_PROCESS, 0, 19) },
	"other-personality": func() error {
		if _, _, errno := unix.Syscall(unix.SYS_PERSONALITY, 8, 0, 0); errno != 0 {
			return errno
		}
		return nil
	},
}

// allowed are what the service needs.
var allowed = map[string]func() error{
	"nothing":      func() error { return nil },
	"write-backup": func() error { return inBackups(func(string) error { return nil }) },
	"read-data":    func() error { return read("/srv/storage/atocore/data/db/atocore.db") },
	"boot-id":      func() error { return read("/proc/sys/kernel/random/boot_id") },
	"tcp":          func() error { return socket(unix.AF_INET, unix.SOCK_STREAM) },
}

func read(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	_, err = f.Read(make([]byte, 1))
	return err
}

func dial(path string) error {
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
	}
	return err
}

func socket(family, kind int) error {
	fd, err := unix.Socket(family, kind, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func writeAndRun() error {
	_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_ANON|unix.MAP_PRIVATE)
	return err
}

// inBackups does something to a file that it makes among the backups.
func inBackups(do func(path string) error) error {
	f, err := os.CreateTemp(backups, "probe")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	return do(f.Name())
}

// probe is the main function in the guest.
func probe(args []string) int {
	switch args[0] {
	case "sink":
		return sink()
	case "health":
		return health()
	}
	try, ok := probes[args[0]]
	if !ok {
		try, ok = allowed[args[0]]
	}
	if !ok {
		fmt.Fprintln(os.Stderr, "no such probe")
		return 2
	}
	if err := try(); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// sink writes down each message that it is sent, one a line.
func sink() int {
	err := http.ListenAndServe("127.0.0.1:9099", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		f, err := os.OpenFile("/run/sink.log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return
		}
		defer f.Close()
		fmt.Fprintln(f, strings.ReplaceAll(string(body), "\n", " / "))
	}))
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// health answers as AtoCore does, for as long as it runs.
func health() int {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, `{"status": "ok"}`) })
	fmt.Fprintln(os.Stderr, http.ListenAndServe("127.0.0.1:8100", mux))
	return 1
}
