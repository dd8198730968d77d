package config

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// The schema is the types of Config themselves: a table is a struct, a key its
// toml tag. Names are matched as they are written; the decoder alone would take
// DB_PATH for db_path.

var (
	schema          = reflect.TypeFor[Config]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// field returns the type of a table's key.
func field(table reflect.Type, key string) (reflect.Type, bool) {
	if table.Kind() == reflect.Map {
		return table.Elem(), true
	}
	for f := range fields(table) {
		if tag(f) == key {
			return f.Type, true
		}
	}
	return nil, false
}

// fields ranges over the keys of a table; a type that is no table has none.
func fields(table reflect.Type) func(yield func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := 0; table.Kind() == reflect.Struct && i < table.NumField(); i++ {
			f := table.Field(i)
			if f.IsExported() && tag(f) != "-" && !yield(f) {
				return
			}
		}
	}
}

func tag(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("toml"), ",")
	return name
}

func isTable(t reflect.Type) bool { return t.Kind() == reflect.Struct || t.Kind() == reflect.Map }

func isTableList(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct
}

// isText reports whether values of t are read by UnmarshalText.
func isText(t reflect.Type) bool { return reflect.PointerTo(t).Implements(textUnmarshaler) }

// want says what a value of type t looks like.
func want(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Duration]():
		return `a duration such as "90s", "15m", "26h" or "8d"`
	case reflect.TypeFor[Limit]():
		return `a duration such as "26h" or "8d", or "off"`
	case reflect.TypeFor[Size]():
		return `a size such as "512MiB" or "1GiB"`
	}
	switch t.Kind() {
	case reflect.Pointer:
		return want(t.Elem())
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.Slice:
		if isTableList(t) {
			return "a list of tables"
		}
		return `a list such as ["…", "…"]`
	case reflect.Struct, reflect.Map:
		return "a table"
	}
	return "a text in quotes"
}

// suggestKey says where a key that table does not know was probably meant to be.
func suggestKey(table reflect.Type, key string) string {
	var names []string
	for f := range fields(table) {
		names = append(names, tag(f))
	}
	near := Nearest(key, names)
	homes := tablesWithKey(key)
	switch {
	case near != "" && (len(homes) == 0 || editDistance(key, near) == 1):
		return fmt.Sprintf("did you mean %q?", near)
	case len(homes) > 0:
		return key + " belongs " + strings.Join(homes, " or ")
	}
	return "the keys here are " + strings.Join(names, ", ")
}

// tablesWithKey names the tables that know key.
func tablesWithKey(key string) []string {
	var homes []string
	var look func(t reflect.Type, path string)
	look = func(t reflect.Type, path string) {
		for f := range fields(t) {
			name, at := tag(f), path
			switch {
			case name != key:
			case at != "":
				homes = append(homes, "to "+at)
			case isTable(f.Type) || isTableList(f.Type):
			default:
				homes = append(homes, "at the top of the file, before the first [table]")
			}
			inner := join(strings.Trim(path, "[]"), name)
			switch {
			case isTableList(f.Type):
				look(f.Type.Elem(), "[["+inner+"]]")
			case f.Type.Kind() == reflect.Struct:
				look(f.Type, "["+inner+"]")
			}
		}
	}
	look(schema, "")
	return homes
}

// Nearest returns the name that word is most likely a slip of; "" when none is
// near. A name that word abbreviates is as near as one slip, and a name that word
// goes on from, as "username" does from "user", as near as two.
func Nearest(word string, names []string) string {
	word = strings.ToLower(word)
	best, least := "", (len(word)+4)/3
	for _, name := range slices.Sorted(slices.Values(names)) {
		d := editDistance(word, strings.ToLower(name))
		switch {
		case len(word) > 2 && strings.HasPrefix(name, word):
			d = min(d, 1)
		case len(word) > 2 && strings.HasPrefix(word, name):
			d = min(d, 2)
		}
		if d < least {
			best, least = name, d
		}
	}
	return best
}

// editDistance counts the letters to insert, delete, replace or swap with their
// neighbour to turn a into b (optimal string alignment).
func editDistance(a, b string) int {
	if len(a) > 100 {
		return len(a)
	}
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
		for j := range b {
			rows[0][j+1] = j + 1
		}
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			replace := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, replace)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
