package config

import (
	"encoding"
	"reflect"
	"sort"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// syntaxCheck walks over the file's syntax before it is decoded. It finds every key
// that nobody knows and every value of the wrong type, where the decoder stops
// at its first, and remembers where each key stands, for the checks of what the
// values mean and to tell a default from a choice.
type syntaxCheck struct {
	parser   unstable.Parser
	starts   []int // of the lines, as offsets
	where    map[string]position
	lengths  map[string]int // of the lists of tables seen so far
	path     string         // of the table whose keys are being read
	table    reflect.Type   // its type; nil while its keys are to be ignored
	spans    []span
	problems problems
}

// span is one expression (a table header or a key with its value) as the bytes
// from its line to the line of the next one.
type span struct {
	start  int
	header bool
	bad    bool // already reported: not to be decoded
}

// examine returns the syntaxCheck of a file, as far as its syntax is right.
func examine(data []byte) *syntaxCheck {
	s := &syntaxCheck{where: map[string]position{}, lengths: map[string]int{}, table: schema}
	for i := range data {
		if i == 0 || data[i-1] == '\n' {
			s.starts = append(s.starts, i)
		}
	}
	s.parser.Reset(data)
	for s.parser.NextExpression() {
		s.expression(s.parser.Expression())
	}
	return s
}

func (s *syntaxCheck) expression(node *unstable.Node) {
	keys := node.Key()
	if !keys.Next() {
		return
	}
	lineStart := s.starts[s.position(keys.Node()).line-1]
	header := node.Kind != unstable.KeyValue
	good := true
	switch {
	case header:
		good = s.header(node)
	case s.table != nil:
		good = s.keyValue(s.path, s.table, node)
	}
	bad := !good || s.table == nil
	s.spans = append(s.spans, span{start: lineStart, header: header, bad: bad})
}

// header enters a [table] or a [[list of tables]].
func (s *syntaxCheck) header(node *unstable.Node) bool {
	list := node.Kind == unstable.ArrayTable
	s.path, s.table = "", schema
	keys := node.Key()
	for keys.Next() {
		at, name := s.position(keys.Node()), string(keys.Node().Data)
		if isTableList(s.table) && !s.enterLast(at) {
			return false
		}
		if !isTable(s.table) {
			s.problems.add(at, "", "write it as "+lastName(s.path)+" = …", "%s is a value, not a table", shown(s.path))
			s.table = nil
			return false
		}
		inner, known := field(s.table, name)
		if !known {
			s.problems.add(at, "", suggestKey(s.table, name), "unknown table [%s]", safe(shown(join(s.path, name))))
			s.table = nil
			return false
		}
		s.path, s.table = join(s.path, name), inner
	}
	return s.enter(node, list)
}

// enterLast goes into the newest element of a list of tables.
func (s *syntaxCheck) enterLast(at position) bool {
	length := s.lengths[s.path]
	if length == 0 {
		s.problems.add(at, "", "put it below the [["+shown(s.path)+"]] that it is for",
			"a table of [[%s]] comes before any [[%[1]s]]", shown(s.path))
		s.table = nil
		return false
	}
	s.path, s.table = element(s.path, length-1), s.table.Elem()
	return true
}

// enter checks that the header is of the kind that its table needs.
func (s *syntaxCheck) enter(node *unstable.Node, list bool) bool {
	keys := node.Key()
	keys.Next()
	at, name := s.position(keys.Node()), shown(s.path)
	fail := func(hint, why string, args ...any) bool {
		s.problems.add(at, "", hint, why, args...)
		s.table = nil
		return false
	}
	switch {
	case isTableList(s.table) && list:
		s.path, s.table = element(s.path, s.lengths[s.path]), s.table.Elem()
		s.lengths[strings.TrimSuffix(s.path, s.path[strings.LastIndex(s.path, "["):])]++
	case isTableList(s.table):
		return fail("write [["+name+"]]", "[%s] may be there several times", name)
	case list && isTable(s.table):
		return fail("write ["+name+"]", "there is only one [%s]", name)
	case !isTable(s.table):
		return fail("write it as "+lastName(name)+" = …", "%s is a value, not a table", name)
	}
	if first, twice := s.where[s.path]; twice {
		return fail("join the two", "[%s] is given twice, first on line %d", name, first.line)
	}
	s.where[s.path] = at
	return true
}

// keyValue checks one key with its value, in the table of that path and type.
func (s *syntaxCheck) keyValue(path string, table reflect.Type, node *unstable.Node) bool {
	keys := node.Key()
	var at position
	for first := true; keys.Next(); first = false {
		here, name := s.position(keys.Node()), string(keys.Node().Data)
		if first {
			at = here
		}
		if !isTable(table) {
			s.problems.add(here, path, "", "%s: want %s, got a table", shown(path), want(table))
			return false
		}
		inner, known := field(table, name)
		if !known {
			s.problems.add(here, join(path, name), suggestKey(table, name), "unknown key \"%s\"",
				safe(shown(join(path, name))))
			return false
		}
		path, table = join(path, name), inner
	}
	if first, twice := s.where[path]; twice {
		s.problems.add(at, path, "keep one of them", "%s is given twice, first on line %d", shown(path), first.line)
		return false
	}
	s.where[path] = at
	return s.value(path, table, node.Value(), at)
}

// value checks that a value fits its type.
func (s *syntaxCheck) value(path string, t reflect.Type, node *unstable.Node, at position) bool {
	if node.Raw.Length > 0 && node.Kind != unstable.InlineTable {
		at = s.position(node)
		s.where[path] = at
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	fits := false
	switch {
	case isText(t):
		text, _ := reflect.New(t).Interface().(encoding.TextUnmarshaler)
		fits = (node.Kind == unstable.String || node.Kind == unstable.Integer) && text.UnmarshalText(node.Data) == nil
	case node.Kind == unstable.Array && t.Kind() == reflect.Slice:
		return s.list(path, t.Elem(), node, at)
	case node.Kind == unstable.InlineTable && isTable(t):
		return s.inline(path, t, node)
	case node.Kind == unstable.String:
		fits = t.Kind() == reflect.String
	case node.Kind == unstable.Bool:
		fits = t.Kind() == reflect.Bool
	case node.Kind == unstable.Integer:
		_, err := strconv.ParseInt(strings.ReplaceAll(string(node.Data), "_", ""), 0, 64)
		fits = t.Kind() == reflect.Float64 || t.Kind() == reflect.Int && err == nil
	case node.Kind == unstable.Float:
		fits = t.Kind() == reflect.Float64
	}
	if !fits {
		s.problems.add(at, path, "", "%s: want %s, got %s", shown(path), want(t), s.got(path, node))
	}
	return fits
}

func (s *syntaxCheck) list(path string, elem reflect.Type, node *unstable.Node, at position) bool {
	good := true
	children := node.Children()
	for i := 0; children.Next(); i++ {
		good = s.value(element(path, i), elem, children.Node(), at) && good
	}
	return good
}

func (s *syntaxCheck) inline(path string, table reflect.Type, node *unstable.Node) bool {
	good := true
	children := node.Children()
	for children.Next() {
		good = s.keyValue(path, table, children.Node()) && good
	}
	return good
}

// got describes a value that does not fit. Addresses of people are secret.
func (s *syntaxCheck) got(path string, node *unstable.Node) string {
	switch {
	case node.Kind == unstable.Array:
		return "a list"
	case node.Kind == unstable.InlineTable:
		return "a table"
	case strings.HasPrefix(path, "notify.") && node.Kind == unstable.String:
		return "a text"
	}
	return safe(string(s.parser.Raw(node.Raw)))
}

func (s *syntaxCheck) position(node *unstable.Node) position {
	offset := int(node.Raw.Offset)
	line := sort.SearchInts(s.starts, offset+1)
	return position{line, offset - s.starts[line-1] + 1}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func lastName(path string) string { return path[strings.LastIndex(path, ".")+1:] }
