package config

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/internal/failure"
)

// leaves are the keys of the schema that are no tables, with their types. A key
// below a list of tables is written as [[list]] and its own name.
func leaves() map[string]reflect.Type {
	found := make(map[string]reflect.Type)
	var look func(table reflect.Type, path string)
	look = func(table reflect.Type, path string) {
		for f := range fields(table) {
			switch key := join(path, tag(f)); {
			case isTableList(f.Type):
				look(f.Type.Elem(), key+"[]")
			case f.Type.Kind() == reflect.Struct && !isText(f.Type):
				look(f.Type, key)
			case f.Type.Kind() == reflect.Pointer && f.Type.Elem().Kind() == reflect.Struct:
				look(f.Type.Elem(), key)
			default:
				found[key] = f.Type
			}
		}
	}
	look(schema, "")
	return found
}

// A value of another type is an error that names the key, its place, and what
// such a value looks like, whatever the key.
func TestEveryKeyRefusesAnotherType(t *testing.T) {
	keys := leaves()
	if len(keys) < 80 {
		t.Fatalf("only %d keys", len(keys))
	}
	for key, kind := range keys {
		for _, wrong := range []string{`3`, `"x y"`, `true`, `2026-04-07`, `[[1]]`, `{ a = 1 }`} {
			if fits(kind, wrong) {
				continue
			}
			text, line := key+" = "+wrong+"\n"+minimal, 1
			if list, name, ok := strings.Cut(key, "[]."); ok {
				text, line = minimal+"[["+list+"]]\n"+name+" = "+wrong+"\n", 4
			}
			for i, own := range []string{"atocore.db_path", "backup.dir"} { // no key is written twice
				if key == own {
					text = strings.Replace(text, strings.SplitAfter(minimal, "\n")[i], "", 1)
				}
			}
			_, err := Parse("x.toml", []byte(text))
			if failure.KindOf(err) != failure.Config {
				t.Errorf("%s = %s is taken: %v", key, wrong, err)
				continue
			}
			bare := strings.NewReplacer("[]", "").Replace(key)
			got, place := err.Error(), fmt.Sprintf("x.toml:%d:", line)
			if !strings.Contains(got, bare) || !strings.Contains(got, place) {
				t.Errorf("%s = %s: the error names neither the key nor its line %d: %s", key, wrong, line, got)
			}
		}
	}
}

// fits reports whether a value may well be of a type.
func fits(kind reflect.Type, value string) bool {
	if kind.Kind() == reflect.Pointer {
		kind = kind.Elem()
	}
	switch {
	case value == `"x y"`:
		return kind.Kind() == reflect.String
	case value == `true`:
		return kind.Kind() == reflect.Bool
	case value == `3`:
		return kind == reflect.TypeFor[Size]() || // of bytes
			!isText(kind) && (kind.Kind() == reflect.Int || kind.Kind() == reflect.Float64)
	case value == `{ a = 1 }`:
		return false
	}
	return false
}

// What holds where nothing is written: the page that operators read has the same.
func TestEveryDefault(t *testing.T) {
	c := mustParse(t, minimal+"atocore.chroma_path = \"/chroma\"\n")
	for key, want := range map[string]string{
		"state_dir":                      "/var/lib/atobackupd",
		"atocore.registry_path":          "",
		"atocore.required_tables":        "[]",
		"atocore.api_url":                "",
		"atocore.health_url":             "",
		"backup.min_free":                "1GiB",
		"backup.chroma_method":           "live",
		"backup.chroma_fallback":         "live",
		"backup.chroma_optimistic_tries": "5",
		"backup.chroma_lock_deadline":    "5m",
		"backup.freeze_command":          "[]",
		"backup.thaw_command":            "[]",
		"backup.freeze_deadline":         "10m",
		"backup.atocore_group":           "",
		"backup.share":                   "auto",
		"schedule.timezone":              "UTC",
		"schedule.daily":                 "0 6 * * *",
		"schedule.weekly":                "0 5 * * 0",
		"schedule.monthly":               "0 4 1 * *",
		"schedule.scrub":                 "0 3 * * 3",
		"schedule.verify":                "0 2 * * 6",
		"schedule.drill":                 "0 7 1 1,4,7,10 *",
		"schedule.catch_up":              "true",
		"schedule.scrub_max_bytes":       "50GiB",
		"schedule.verify_max_bytes":      "20GiB",
		"schedule.verify_every":          "35d",
		"schedule.shutdown_timeout":      "1m",
		"encryption.recipients":          "[]",
		"encryption.recipients_file":     "",
		"encryption.compression":         "default",
		"restore.stop_command":           "[]",
		"restore.start_command":          "[]",
		"restore.health_timeout":         "1m",
		"drill.queries":                  "[]",
		"alarms.snapshot":                "26h",
		"alarms.full":                    "8d",
		"alarms.prune":                   "26h",
		"alarms.scrub":                   "9d",
		"alarms.drill":                   "100d",
		"alarms.live_drill":              "off",
		"alarms.verify":                  "40d",
		"notify.urls":                    "[]",
		"notify.urls_file":               "",
		"notify.command":                 "[]",
		"notify.digest":                  "",
		"http.listen":                    "127.0.0.1:8120",
		"http.token_file":                "",
		"http.require_token":             "false",
		"log.level":                      "info",
		"log.format":                     "auto",
	} {
		value, ok := valueAt(reflect.ValueOf(*c), key)
		if !ok {
			t.Errorf("there is no key %s", key)
			continue
		}
		if got := fmt.Sprint(value.Interface()); got != want {
			t.Errorf("%s is %s by default, want %s", key, got, want)
		}
	}
	if c.Retention.Daily != 7 || c.Retention.Weekly != 4 || c.Retention.Monthly != 6 {
		t.Errorf("retention is %+v by default", c.Retention)
	}
	// Without a directory to save, nothing is scheduled to save it.
	bare := mustParse(t, minimal)
	if bare.Schedule.Weekly != "" || bare.Schedule.Monthly != "" {
		t.Errorf("without chroma_path: weekly %q, monthly %q", bare.Schedule.Weekly, bare.Schedule.Monthly)
	}
	// Where a service can be stopped, the drill on it is watched.
	managed := mustParse(t, minimal+"restore.stop_command = [\"a\"]\nrestore.start_command = [\"b\"]\n")
	if got := fmt.Sprint(managed.Alarms.LiveDrill); got != "100d" {
		t.Errorf("alarms.live_drill with a stop_command is %s", got)
	}
}
