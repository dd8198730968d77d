package atobackupd_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/health"
)

// pages are what people read: each must only show commands that exist.
func pages(t *testing.T) map[string]string {
	t.Helper()
	names, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	texts := make(map[string]string)
	for _, name := range append(names, "README.md", "CHANGELOG.md", "CONTRIBUTING.md") {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		texts[name] = string(data)
	}
	if len(names) < 8 {
		t.Fatalf("only %d pages in docs", len(names))
	}
	return texts
}

// helps asks the program itself what it knows, each command once.
type helps struct {
	program string
	known   map[string]*help
}

type help struct {
	commands []string
	flags    []string // with their dashes
	args     bool     // it takes arguments
}

var (
	helpCommand = regexp.MustCompile(`^  ([a-z]+) {2,}\S`)
	helpFlag    = regexp.MustCompile(`^ +(?:(-\w), )?(--[a-z-]+)`)
)

func (h *helps) of(t *testing.T, path []string) *help {
	t.Helper()
	key := strings.Join(path, " ")
	if found := h.known[key]; found != nil {
		return found
	}
	out, err := exec.Command(h.program, append(slices.Clone(path), "--help")...).Output()
	if err != nil {
		t.Fatalf("atobackupd %s --help: %v", key, err)
	}
	found, section := &help{}, ""
	for line := range strings.Lines(string(out)) {
		if line[0] != ' ' && strings.HasSuffix(strings.TrimSpace(line), ":") {
			section = strings.TrimSpace(line)
			continue
		}
		switch section {
		case "Usage:":
			words := strings.Fields(line)
			found.args = found.args ||
				len(words) > len(path)+1 && words[len(path)+1] != "[flags]" && words[len(path)+1] != "[command]"
		case "Examples:", "Aliases:":
		case "Flags:", "Global Flags:":
			if m := helpFlag.FindStringSubmatch(line); m != nil {
				found.flags = append(found.flags, m[1], m[2])
			}
		default:
			if m := helpCommand.FindStringSubmatch(line); m != nil {
				found.commands = append(found.commands, m[1])
			}
		}
	}
	h.known[key] = found
	return found
}

// check says what is wrong with the words after "atobackupd"; "" is nothing.
func (h *helps) check(t *testing.T, words []string) string {
	t.Helper()
	var path []string
	at := h.of(t, nil)
	for len(at.commands) > 0 && len(words) > 0 && !strings.HasPrefix(words[0], "-") {
		if words[0] == "…" {
			return ""
		}
		if !slices.Contains(at.commands, words[0]) {
			return "there is no command " + strings.Join(append(path, words[0]), " ")
		}
		path, words = append(path, words[0]), words[1:]
		at = h.of(t, path)
	}
	for i, word := range words {
		flag, _, _ := strings.Cut(word, "=")
		switch {
		case strings.HasPrefix(flag, "-") && flag != "-":
			if !slices.Contains(at.flags, flag) {
				return "atobackupd " + strings.Join(path, " ") + " has no flag " + flag
			}
		case i == 0 && !at.args && len(path) > 0:
			return "atobackupd " + strings.Join(path, " ") + " takes no argument " + word
		}
	}
	return ""
}

var (
	fence  = regexp.MustCompile("(?ms)^ *```[a-z]*\n(.*?)^ *```$")
	inline = regexp.MustCompile("`([^`]+)`")
	// A command line: the program where a command can stand, up to what the shell
	// or a comment takes over.
	invocation = regexp.MustCompile(`(?:^|[|;&(=]|\bsudo(?: -u \w+)?)\s*(?:/[\w/]+/)?atobackupd[ \t]+([^|;&)#<>` + "`" +
		`\n]+)`)
	// What begins a line of the program's messages, not a command.
	message = regexp.MustCompile(`^atobackupd: `)
)

// invocations finds the command lines of a page: in blocks, where a line may go
// on after a backslash, and in the middle of sentences.
func invocations(text string) (found []string) {
	collect := func(code string) {
		for line := range strings.Lines(strings.ReplaceAll(code, "\\\n", " ")) {
			if message.MatchString(line) {
				continue
			}
			for _, m := range invocation.FindAllStringSubmatch(line, -1) {
				found = append(found, strings.TrimSpace(m[1]))
			}
		}
	}
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		collect(m[1])
	}
	for _, m := range inline.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		if first, _, _ := strings.Cut(m[1], "\n\n"); first == m[1] {
			collect(strings.Join(strings.Fields(m[1]), " "))
		}
	}
	return found
}

func TestCommandsInPagesExist(t *testing.T) {
	h := &helps{program: filepath.Join(t.TempDir(), "atobackupd"), known: make(map[string]*help)}
	if out, err := exec.Command("go", "build", "-o", h.program, "./cmd/atobackupd").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	for _, wrong := range []string{"vault frobnicate", "restore --now", "list everything", "frobnicate", "sync -x"} {
		if h.check(t, strings.Fields(wrong)) == "" {
			t.Errorf("atobackupd %s passed", wrong)
		}
	}
	count := 0
	for name, text := range pages(t) {
		for _, line := range invocations(text) {
			count++
			if problem := h.check(t, strings.Fields(line)); problem != "" {
				t.Errorf("%s: `atobackupd %s`: %s", name, line, problem)
			}
		}
	}
	if count < 100 {
		t.Errorf("only %d command lines were found in the pages", count)
	}
}

var tomlBlock = regexp.MustCompile("(?ms)^ *```toml\n(.*?)^ *```$")

// TestConfigurationsInPagesAreAccepted puts what a page shows of a configuration into
// one that lacks nothing else.
func TestConfigurationsInPagesAreAccepted(t *testing.T) {
	rest := map[string][]string{
		"[atocore]":    {`db_path = "/srv/atocore.db"`, `chroma_path = "/srv/chroma"`},
		"[backup]":     {`dir = "/srv/backups"`},
		"[encryption]": {`recipients = ["age1w0p7p4ch832p5kjaschxfpztefcadgz7d7mvlat7sjsk7tzy9fjql7a0qq"]`},
	}
	count := 0
	for name, text := range pages(t) {
		for _, m := range tomlBlock.FindAllStringSubmatch(text, -1) {
			count++
			shown := m[1]
			for table, lines := range rest {
				for _, line := range lines {
					key, _, _ := strings.Cut(line, " = ")
					switch {
					case regexp.MustCompile(`(?m)^` + key + ` = `).MatchString(shown):
					case strings.Contains(shown, table+"\n"):
						shown = strings.Replace(shown, table+"\n", table+"\n"+line+"\n", 1)
					default:
						shown += "\n" + table + "\n" + line + "\n"
					}
				}
			}
			if _, err := config.Parse(name, []byte(shown)); err != nil {
				t.Errorf("%v, in\n%s", err, m[1])
			}
		}
	}
	if count < 6 {
		t.Errorf("only %d pieces of a configuration were found in the pages", count)
	}
}

var block = regexp.MustCompile("(?ms)^```(sh)?\n(.*?)^```$")

// TestFormatExample runs the worked example of docs/format.md on the vault that
// lies beside it, and expects the output that the page shows.
func TestFormatExample(t *testing.T) {
	_, example, _ := strings.Cut(pages(t)["docs/format.md"], "\n## A worked example\n")
	var script, want strings.Builder
	for _, m := range block.FindAllStringSubmatch(example, -1) {
		switch {
		case m[1] == "sh":
			script.WriteString(strings.TrimPrefix(m[2], "cd docs/format-example\n"))
		case script.Len() > 0: // before it comes a listing
			want.WriteString(m[2])
		}
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("docs/format-example")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", "-e", "-o", "pipefail", "-c", script.String())
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != want.String() {
		t.Errorf("it gives (%v)\n%s\nthe page says\n%s", err, out, want.String())
	}
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ +(.*)$`)
	noSlug  = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors are the headings of a page, as links name them.
func anchors(text string) (found []string) {
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		slug := noSlug.ReplaceAllString(strings.ToLower(m[1]), "")
		found = append(found, strings.ReplaceAll(slug, " ", "-"))
	}
	return found
}

func TestLinksInPagesResolve(t *testing.T) {
	texts := pages(t)
	for name, text := range texts {
		for _, m := range link.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			path, anchor, _ := strings.Cut(m[1], "#")
			target := name
			if path != "" {
				target = filepath.Join(filepath.Dir(name), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: the link %s leads nowhere", name, m[1])
				continue
			}
			if anchor != "" && !slices.Contains(anchors(texts[target]), anchor) {
				t.Errorf("%s: %s has no heading #%s", name, target, anchor)
			}
		}
	}
}

// What the threat model says is shown by a test is shown by one that exists.
func TestThreatModelNamesItsTests(t *testing.T) {
	page, err := os.ReadFile("docs/threat-model.md")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("git", "grep", "-hoE", `^func (Test|Fuzz)[A-Za-z0-9_]+`, "--", "*_test.go").Output()
	if err != nil {
		t.Fatalf("git grep: %v", err)
	}
	exist := strings.Fields(strings.ReplaceAll(string(out), "func ", ""))
	rows, shown := 0, 0
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, "|")
		if len(cells) != 6 || strings.HasPrefix(cells[1], "--") || cells[4] == " shown by " {
			continue
		}
		rows++
		named := regexp.MustCompile("`((?:Test|Fuzz)\\w+)(?:/\\w+)?`").FindAllStringSubmatch(cells[4], -1)
		if len(named) == 0 && !strings.Contains(cells[4], "†") {
			t.Errorf("no test shows that this is stopped: %s", line)
		}
		for _, name := range named {
			shown++
			if !slices.Contains(exist, name[1]) {
				t.Errorf("docs/threat-model.md names %s, which does not exist", name[1])
			}
		}
	}
	if rows < 20 || shown < 30 {
		t.Errorf("only %d rows and %d tests were found", rows, shown)
	}
}

// Whatever status can name has its row in the runbook.
func TestRunbookExplainsConditions(t *testing.T) {
	page := pages(t)["docs/runbook.md"]
	for _, name := range health.Conditions {
		if !strings.Contains(page, "\n| `"+name+"` | ") {
			t.Errorf("docs/runbook.md does not say what the condition %s means", name)
		}
	}
}
