package config

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/internal/failure"
)

// Whole configurations to which the rows of the tables add one line each. The key
// of a list's table is the last of its text, so that a line may stand behind it.
const (
	laptop = minimal + `encryption.recipients = ["age1laptop"]
[[offsite]]
name = "laptop"
hosts = ["laptop.local"]
user = "atobackup"
known_hosts = "/etc/atobackupd/known_hosts"
path = "/vault"
`
	disk = minimal + `encryption.recipients = ["age1laptop"]
[[offsite]]
name = "disk"
type = "dir"
path = "/mnt/vault"
`
	cloud = minimal + `encryption.recipients = ["age1laptop"]
[[offsite]]
name = "cloud"
type = "s3"
endpoint = "https://s3.example.net"
bucket = "vault"
`
	asked   = minimal + "[[restore.checks]]\nurl = \"http://127.0.0.1:8100/stats\"\n"
	queried = minimal + "[[restore.checks]]\nsql = \"select 1\"\n"
)

// with returns base with lines that replace those of the same keys or stand at its end.
func with(base, lines string) string {
	all := strings.Split(strings.TrimSuffix(base, "\n"), "\n")
next:
	for _, line := range strings.Split(lines, "\n") {
		key, _, _ := strings.Cut(line, " = ")
		for i, old := range all {
			if strings.HasPrefix(old, key+" = ") {
				all[i] = line
				continue next
			}
		}
		all = append(all, line)
	}
	return strings.Join(all, "\n") + "\n"
}

// refusal is a configuration that is refused, and the whole error of it without
// the name of the file.
type refusal struct{ base, line, want string }

func refuse(t *testing.T, tests []refusal) {
	t.Helper()
	for _, test := range tests {
		_, err := Parse("test.toml", []byte(with(test.base, test.line)))
		if err == nil {
			t.Errorf("%s: taken, want %s", test.line, test.want)
			continue
		}
		if got := strings.ReplaceAll(err.Error(), "config test.toml:", ""); got != test.want {
			t.Errorf("%s:\ngot  %s\nwant %s", test.line, got, test.want)
		}
		if kind := failure.KindOf(err); kind != failure.Config {
			t.Errorf("%s: kind %v", test.line, kind)
		}
	}
}

// acceptance is a configuration that is taken, and what one of its keys is then.
type acceptance struct{ base, line, key, want string }

func accept(t *testing.T, tests []acceptance) {
	t.Helper()
	for _, test := range tests {
		c, err := Parse("test.toml", []byte(with(test.base, test.line)))
		if err != nil {
			t.Errorf("%s: %v", test.line, err)
			continue
		}
		if got := textOf(t, c, test.key); got != test.want {
			t.Errorf("%s: %s is %q, want %q", test.line, test.key, got, test.want)
		}
	}
}

// textOf returns the value of a key as people write it, of the first target for
// "offsite." and of the first check for "restore.checks.".
func textOf(t *testing.T, c *Config, key string) string {
	t.Helper()
	root := reflect.ValueOf(*c)
	if rest, ok := strings.CutPrefix(key, "offsite."); ok {
		root, key = reflect.ValueOf(c.Offsite[0]), rest
	}
	if rest, ok := strings.CutPrefix(key, "restore.checks."); ok {
		root, key = reflect.ValueOf(c.Restore.Checks[0]), rest
	}
	for name := range strings.SplitSeq(key, ".") {
		found := false
		for f := range fields(root.Type()) {
			if tag(f) == name {
				root, found = root.FieldByIndex(f.Index), true
				break
			}
		}
		if !found {
			t.Fatalf("there is no key %s", key)
		}
	}
	if root.Kind() == reflect.Pointer && !root.IsNil() {
		root = root.Elem()
	}
	return fmt.Sprint(root.Interface())
}

// keysOfSchema returns every key that holds a value, as the file writes it.
func keysOfSchema() []string {
	var keys []string
	var look func(table reflect.Type, path string)
	look = func(table reflect.Type, path string) {
		for f := range fields(table) {
			key := join(path, tag(f))
			switch {
			case isTableList(f.Type):
				look(f.Type.Elem(), key)
			case f.Type.Kind() == reflect.Struct:
				look(f.Type, key)
			default:
				keys = append(keys, key)
			}
		}
	}
	look(schema, "")
	return keys
}
