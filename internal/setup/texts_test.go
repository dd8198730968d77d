package setup

import (
	"archive/tar"
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
)

// The lines of a command that nobody confirms are commented out, to the bracket
// that closes its list, and no others.
func TestWithoutCommands(t *testing.T) {
	for _, test := range []struct{ text, drop, want string }{
		{"stop_command = [\"x\"]\n", "stop_command", "# not confirmed: stop_command = [\"x\"]\n"},
		{"stop_command = [\"x\"]\n", "start_command", "stop_command = [\"x\"]\n"},
		{"  thaw_command=[\n\"x\",\n]\nshare = \"auto\"\n", "thaw_command", "# not confirmed:   thaw_command=[\n" +
			"# not confirmed: \"x\",\n# not confirmed: ]\nshare = \"auto\"\n"},
		{"command = [\"x\"]\nfreeze_command = [\"y\"]\n", "command", "# not confirmed: command = [\"x\"]\n" +
			"freeze_command = [\"y\"]\n"},
		{"# stop_command = [\"x\"]\n", "stop_command", "# stop_command = [\"x\"]\n"},
		{"# e.g. command = [\"x\"]\n", "command", "# e.g. command = [\"x\"]\n"},
	} {
		if got := string(withoutCommands([]byte(test.text), map[string]bool{test.drop: true})); got != test.want {
			t.Errorf("%q without %s: %q, want %q", test.text, test.drop, got, test.want)
		}
	}
}

// However a command is written that nobody confirms, it does not survive: its line
// is turned off, or the document is refused.
func TestNoCommandSurvives(t *testing.T) {
	const base = "atocore.db_path = \"/d\"\nbackup.dir = \"/b\"\n"
	for _, test := range []struct{ text, refused string }{
		{"[notify]\ncommand = [\"evil\"]\n", ""},
		{"[restore]\nstop_command = [\n \"evil\",\n]\nstart_command = [ \"evil\" ]\n", ""},
		{"notify.command = [\"evil\"]\n", "notify.command"},
		{"notify = { command = [\"evil\"] }\n", "notify.command"},
		{"[restore]\n\"stop_command\" = [\"evil\"]\n", "restore.stop_command"},
	} {
		var report BootstrapReport
		got, err := BootstrapRequest{}.confirmed([]byte(base+test.text), &report)
		if test.refused != "" {
			if failure.KindOf(err) != failure.Refused || !strings.Contains(err.Error(), test.refused) {
				t.Errorf("%q: %v, want it refused for %s", test.text, err, test.refused)
			}
			continue
		}
		cfg, parseErr := config.Parse("x", got)
		if err != nil || parseErr != nil {
			t.Errorf("%q: %v, %v", test.text, err, parseErr)
			continue
		}
		for _, c := range commands(cfg) {
			if len(c.Argv) > 0 {
				t.Errorf("%q: %s is still %q", test.text, c.Key, c.Argv)
			}
		}
		if len(report.Warnings) != len(report.Commands) || len(report.Commands) == 0 || report.Commands[0].Kept {
			t.Errorf("%q: %+v", test.text, report)
		}
	}
}

// A host document holds files, and nothing else that tar knows.
func TestUntar(t *testing.T) {
	for _, test := range []struct {
		name   string
		header tar.Header
		want   string
	}{
		{"a file", tar.Header{Name: "config.toml", Typeflag: tar.TypeReg, Size: 2}, ""},
		{"a link", tar.Header{Name: "config.toml", Typeflag: tar.TypeSymlink, Linkname: "/etc/shadow"}, "no file of a"},
		{"a directory", tar.Header{Name: "files/", Typeflag: tar.TypeDir}, "no file of a host document"},
		{"a device", tar.Header{Name: "files/null", Typeflag: tar.TypeChar}, "no file of a host document"},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := w.WriteHeader(&test.header); err != nil {
			t.Fatal(err)
		}
		if test.header.Size > 0 {
			if _, err := w.Write([]byte("x\n")); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		parts, err := untar(b.Bytes())
		switch {
		case test.want == "" && (err != nil || string(parts["config.toml"]) != "x\n"):
			t.Errorf("%s: %q, %v", test.name, parts, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
		if _, err := untar(b.Bytes()[:513]); err == nil { // a header, and a byte of the file
			t.Errorf("%s: what is cut short was taken", test.name)
		}
	}
}

// Where a host document may write.
func TestBootstrapPlaces(t *testing.T) {
	there := filepath.Join(t.TempDir(), "there")
	put(t, there, "")
	for _, test := range []struct {
		path  string
		force bool
		kind  failure.Kind
	}{
		{there + ".new", false, failure.Other},
		{there, false, failure.Refused},
		{there, true, failure.Other},
		{"etc/config.toml", true, failure.Invalid},
		{"/etc/../root/.ssh/authorized_keys", true, failure.Invalid},
		{"/etc//x", true, failure.Invalid},
		{"", true, failure.Invalid},
	} {
		err := BootstrapRequest{Force: test.force}.check([]BootstrapFile{{Path: test.path}})
		if (err == nil) != (test.kind == failure.Other) || err != nil && failure.KindOf(err) != test.kind {
			t.Errorf("%q, force %v: %v, want kind %v", test.path, test.force, err, test.kind)
		}
	}
}

// What init writes of what it was told is what the daemon reads.
func TestConfigText(t *testing.T) {
	for _, test := range []struct {
		name      string
		change    func(r *InitRequest)
		has, none []string
	}{
		{"the least", func(*InitRequest) {},
			[]string{"db_path = \"/srv/a b/\\\"x\\\".db\"\n", "#chroma_path = \"\"\n", "#weekly = \"\"\n"},
			[]string{"\n[[offsite]]", "\nhealth_url"}},
		{"Chroma", func(r *InitRequest) { r.Chroma = "/srv/chroma" },
			[]string{"\nchroma_path = \"/srv/chroma\"\n", "\nweekly = \"0 5 * * 0\"\n"}, nil},
		{"the service", func(r *InitRequest) {
			r.HealthURL, r.APIURL, r.ComposeFile = "http://h/health", "http://h", "/c.yml"
		},
			[]string{"\nhealth_url = \"http://h/health\"\n", "\napi_url = \"http://h\"\n",
				"\nstop_command = [\"docker\", \"compose\", \"-f\", \"/c.yml\", \"down\"]\n",
				"\nstart_command = [\"docker\", \"compose\", \"-f\", \"/c.yml\", \"up\", \"-d\"]\n"}, nil},
		{"a target that only adds", func(r *InitRequest) { r.TargetHosts = []string{"laptop", "10.0.0.2"} },
			[]string{"\n[[offsite]]\n", "\nhosts = [\"laptop\", \"10.0.0.2\"]\n", "\nappend_only = true\n",
				"\nidentity_file = \"/etc/a/id_ed25519\"\n", "\nknown_hosts = \"/etc/a/known_hosts\"\n"}, nil},
		{"an ordinary target", func(r *InitRequest) { r.TargetHosts, r.Ordinary = []string{"laptop"}, true },
			[]string{"\nhosts = [\"laptop\"]\n"}, []string{"\nappend_only = true\n"}},
	} {
		r := InitRequest{ConfigPath: "/etc/a/config.toml", StateDir: "/var/lib/a", DB: `/srv/a b/"x".db`,
			BackupDir: "/srv/backups", Recipients: []string{"age1a"}, TargetName: "laptop", TargetUser: "keeper",
			TargetPath: "/v"}
		test.change(&r)
		text, err := r.configText()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := config.Parse(r.ConfigPath, []byte(text)); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		for _, want := range test.has {
			if !strings.Contains(text, want) {
				t.Errorf("%s: it lacks %q", test.name, want)
			}
		}
		for _, none := range test.none {
			if strings.Contains(text, none) {
				t.Errorf("%s: it has %q", test.name, none)
			}
		}
	}
	e := configEditor{lines: []string{"[log]", "level = \"info\""}}
	e.set("[log]", "nothing", "x")
	if e.err == nil || e.err.Error() != "the example configuration has no [log] nothing" {
		t.Errorf("a key that the example lacks: %v", e.err)
	}
}

// A code has the border of four that cameras need, and lines of one width.
func TestQRCode(t *testing.T) {
	code, err := QRCode("AGE-SECRET-KEY-1" + strings.Repeat("Q", 58))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(code, "\n"), "\n")
	width := 0
	for i, line := range lines {
		cells, ok := strings.CutPrefix(strings.TrimSuffix(line, "\x1b[0m"), "\x1b[30;107m")
		n := len([]rune(cells))
		if width = max(width, n); !ok || n != width {
			t.Errorf("line %d is %d wide, of %d", i, n, width)
		}
		if i < 2 && strings.TrimSpace(cells) != "" || !strings.HasPrefix(cells, "    ") ||
			!strings.HasSuffix(cells, "    ") {
			t.Errorf("line %d has no border: %q", i, cells)
		}
	}
	if first := lines[2]; !strings.Contains(first, "    █▀▀▀▀▀█") {
		t.Errorf("no corner to find it by: %q", first)
	}
	if _, err := QRCode(strings.Repeat("x", 5000)); err == nil {
		t.Error("what no code can hold was drawn")
	}
}
