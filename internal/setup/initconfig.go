package setup

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/atocore/atobackupd"
)

// configText fills the commented example in, so that the operator's own file
// explains itself.
func (r *InitRequest) configText() (string, error) {
	e := &configEditor{lines: strings.Split(atobackupd.ConfigExample, "\n")}
	e.set("", "state_dir", r.StateDir)
	e.set("[atocore]", "db_path", r.DB)
	e.set("[atocore]", "registry_path", r.Registry)
	e.set("[atocore]", "chroma_path", r.Chroma)
	e.set("[backup]", "dir", r.BackupDir)
	if r.HealthURL != "" {
		e.set("[atocore]", "health_url", r.HealthURL)
	}
	if r.APIURL != "" {
		e.set("[atocore]", "api_url", r.APIURL)
	}
	if r.ComposeFile != "" {
		compose := []string{"docker", "compose", "-f", r.ComposeFile}
		e.setList("[restore]", "stop_command", append(compose, "down"))
		e.setList("[restore]", "start_command", append(compose, "up", "-d"))
	}
	if r.Chroma == "" {
		e.set("[schedule]", "weekly", "")
		e.set("[schedule]", "monthly", "")
	}
	e.setList("[encryption]", "recipients", r.Recipients)
	if len(r.TargetHosts) > 0 {
		dir := filepath.Dir(r.ConfigPath)
		e.uncomment("#[[offsite]]")
		e.set("[[offsite]]", "name", r.TargetName)
		e.setList("[[offsite]]", "hosts", r.TargetHosts)
		e.set("[[offsite]]", "type", "sftp")
		e.set("[[offsite]]", "user", r.TargetUser)
		e.set("[[offsite]]", "identity_file", r.sshKeyPath())
		e.set("[[offsite]]", "known_hosts", filepath.Join(dir, "known_hosts"))
		e.set("[[offsite]]", "path", r.TargetPath)
		if !r.Ordinary {
			e.put("[[offsite]]", "append_only", "append_only = true")
		}
	}
	return strings.Join(e.lines, "\n"), e.err
}

// configEditor sets keys in the text of a configuration. Lines that a "#" turns
// off count as keys.
type configEditor struct {
	lines []string
	err   error
}

// set writes a value to a key of a table. An empty value turns the line off.
func (e *configEditor) set(table, key, value string) {
	line := key + " = " + strconv.Quote(value)
	if value == "" {
		line = "#" + key + ` = ""`
	}
	e.put(table, key, line)
}

func (e *configEditor) setList(table, key string, values []string) {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = strconv.Quote(v)
	}
	e.put(table, key, key+" = ["+strings.Join(quoted, ", ")+"]")
}

func (e *configEditor) put(table, key, line string) {
	inside := ""
	for i, old := range e.lines {
		bare := strings.TrimPrefix(old, "#")
		if strings.HasPrefix(bare, "[") {
			inside = old
		}
		if inside == table && strings.HasPrefix(bare, key+" = ") {
			e.lines[i] = line
			return
		}
	}
	e.fail(table + " " + key)
}

func (e *configEditor) uncomment(line string) {
	for i, old := range e.lines {
		if old == line {
			e.lines[i] = strings.TrimPrefix(line, "#")
			return
		}
	}
	e.fail(line)
}

func (e *configEditor) fail(what string) {
	if e.err == nil {
		e.err = fmt.Errorf("the example configuration has no %s", what)
	}
}
