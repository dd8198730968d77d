package config

import (
	"os"
	"reflect"
	"regexp"
	"testing"

	"github.com/pelletier/go-toml/v2"
)

const example = "../../config.example.toml"

// commented is a line of the example that "#" turns off: a key or a header.
// Prose begins with "# ".
var commented = regexp.MustCompile(`(?m)^#(\[|"|[a-z])`)

// alternative is a key that is set to nothing, with an example behind it.
var alternative = regexp.MustCompile(`(?m)^\w+ = \[\]\n# e\.g\. `)

func readExample(t *testing.T) (asIs, uncommented []byte) {
	t.Helper()
	asIs, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	return asIs, commented.ReplaceAll(asIs, []byte("$1"))
}

func TestExampleSetsDefaults(t *testing.T) {
	asIs, _ := readExample(t)
	got, err := Parse(example, asIs)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.AtoCore.DBPath = "/srv/storage/atocore/data/db/atocore.db"
	want.AtoCore.RegistryPath = "/srv/storage/atocore/config/project-registry.json"
	want.AtoCore.ChromaPath = "/srv/storage/atocore/data/chroma"
	want.Backup.Dir = "/srv/storage/atocore/backups"
	equal(t, got, want)
}

func TestExampleUncommented(t *testing.T) {
	_, uncommented := readExample(t)
	c, err := Parse(example, uncommented)
	if err != nil {
		t.Fatal(err)
	}
	minimal, err := Parse("minimal", []byte(`
atocore.db_path = "/a/db"
backup.dir = "/b"
encryption.recipients = ["age1a"]
[[offsite]]
name = "laptop"
hosts = ["laptop.local", "laptop.tailnet"]
user = "atobackup"
identity_file = "/etc/atobackupd/id_ed25519"
known_hosts = "/etc/atobackupd/known_hosts"
path = "/home/atobackup/vault"
bandwidth_limit = "2MiB"
[offsite.retention]
daily = 14
weekly = 8
monthly = 12
`))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(c.Offsite[:1], minimal.Offsite) {
		t.Errorf("the example's target is\n%+v\nwith defaults it is\n%+v", c.Offsite, minimal.Offsite)
	}
	if len(c.Offsite) != 3 || c.Offsite[1].Type != "dir" || c.Offsite[2].Type != "s3" {
		t.Errorf("the example's targets are not one of each type: %+v", c.Offsite)
	}
	if n := len(alternative.FindAll(uncommented, -1)); n != 8 {
		t.Errorf("%d examples in prose, want 8", n)
	}
	if _, err := Parse(example, alternative.ReplaceAll(uncommented, nil)); err != nil {
		t.Error(err)
	}
	if got := len(c.Restore.Checks); got != 3 {
		t.Errorf("%d restore checks, want the 3 of the example", got)
	}
}

// A key that is off in the example must be one whose default is nothing.
func TestExampleCommentsOutOnlyUnsetKeys(t *testing.T) {
	asIs, uncommented := readExample(t)
	set, all := examine(asIs), examine(uncommented)
	defaults := reflect.ValueOf(*Default())
	for key := range all.where {
		_, isSet := set.where[key]
		value, ok := valueAt(defaults, key)
		if !isSet && ok && !value.IsZero() {
			t.Errorf("%s is commented out, but its default is %v", key, value)
		}
	}
}

func TestExampleHasEveryKey(t *testing.T) {
	_, uncommented := readExample(t)
	written := map[string]bool{}
	for key := range examine(uncommented).where {
		written[shown(key)] = true
	}
	var look func(table reflect.Type, path string)
	look = func(table reflect.Type, path string) {
		for f := range fields(table) {
			key := join(path, tag(f))
			if !written[key] {
				t.Errorf("the example lacks %s", key)
			}
			inner := f.Type
			if isTableList(inner) {
				inner = inner.Elem()
			}
			look(inner, key)
		}
	}
	look(schema, "")
}

// equal compares what two configurations say, not where they say it.
func equal(t *testing.T, got, want *Config) {
	t.Helper()
	a, err := toml.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	b, err := toml.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if string(a) != string(b) {
		t.Errorf("got\n%s\nwant\n%s", a, b)
	}
}

// valueAt returns the value of a key in a struct; none below a list or a map.
func valueAt(table reflect.Value, key string) (reflect.Value, bool) {
	for _, name := range regexp.MustCompile(`\.`).Split(key, -1) {
		if table.Kind() != reflect.Struct {
			return reflect.Value{}, false
		}
		found := false
		for f := range fields(table.Type()) {
			if tag(f) == name {
				table, found = table.FieldByIndex(f.Index), true
				break
			}
		}
		if !found {
			return reflect.Value{}, false
		}
	}
	return table, !isTable(table.Type())
}
