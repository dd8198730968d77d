package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sort"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/atocore/atobackupd/internal/failure"
)

// maxFile bounds what is read as a configuration: a path given by mistake may
// name a database.
const maxFile = 256 << 10

// maxRepeats bounds how many errors of the decoder itself one file reports.
const maxRepeats = 20

// Locate returns the path of the configuration: flag where it is not empty, then
// the environment's ATOBACKUPD_CONFIG, then DefaultPath.
func Locate(flag string) string {
	for _, path := range []string{flag, os.Getenv("ATOBACKUPD_CONFIG")} {
		if path != "" {
			return path
		}
	}
	return DefaultPath
}

// Load reads and checks the configuration at path. Every error is a
// *failure.Error of kind Config; the problems of one file come together, in its
// order.
func Load(path string) (*Config, error) {
	data, mode, err := read(path)
	if err != nil {
		hint := "check the path and who may read it"
		if errors.Is(err, fs.ErrNotExist) {
			hint = "make one with atobackupd init, or name another with --config"
		}
		return nil, &failure.Error{Op: "config " + path, Kind: failure.Config, Err: err, Hint: hint}
	}
	c, err := Parse(path, data)
	if err != nil {
		return nil, err
	}
	c.worldReadable = mode.Perm()&0o004 != 0
	return c, nil
}

func read(path string) ([]byte, fs.FileMode, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, errors.Unwrap(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	if info.IsDir() {
		return nil, 0, errors.New("is a directory")
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("is larger than %s, so no configuration", Size(maxFile))
	}
	return data, info.Mode(), err
}

// Parse reads and checks a configuration that was read from the file called
// name. Errors are those of Load.
func Parse(name string, data []byte) (*Config, error) {
	s := examine(data)
	if s.parser.Error() != nil {
		// Without syntax nothing else that could be said is certain.
		found := problems{syntax(data, toml.Unmarshal(data, &map[string]any{}))}
		return nil, found.err(name)
	}
	c := s.decode(data)
	found := s.problems
	if c != nil {
		c.Path, c.where = name, s.where
		c.settle()
		for _, p := range c.check() {
			if !s.problems.about(p.key) {
				found = append(found, p)
			}
		}
	}
	if err := found.err(name); err != nil {
		return nil, err
	}
	return c, nil
}

// decode returns what can be decoded: expressions that are already reported are
// left out, and so are those at which the decoder stops, each reported in its
// turn. It returns nil, with a problem reported, when that leads nowhere.
func (s *syntaxCheck) decode(data []byte) *Config {
	for range maxRepeats {
		c := Default()
		err := toml.NewDecoder(bytes.NewReader(s.blanked(data))).DisallowUnknownFields().Decode(c)
		if err == nil {
			return c
		}
		p := syntax(data, err)
		s.problems = append(s.problems, p)
		if !s.blankOut(data, p.at) {
			break
		}
	}
	return nil
}

// syntax is a decoder's error as a problem, with the line that it is about.
func syntax(data []byte, err error) problem {
	if err == nil {
		return problem{why: "cannot be read as TOML"}
	}
	var at position
	var stop *toml.DecodeError
	if errors.As(err, &stop) {
		at.line, at.column = stop.Position()
	}
	return problem{at: at, why: strings.TrimPrefix(err.Error(), "toml: "), hint: excerpt(data, at.line)}
}

// excerpt quotes a line of the file, without what may be a secret: in a file
// that is no TOML nobody can tell for certain.
func excerpt(data []byte, number int) string {
	lines := strings.Split(string(data), "\n")
	if number < 1 || number > len(lines) || bytes.Contains(data, []byte("PRIVATE KEY")) {
		return ""
	}
	line := strings.TrimSpace(lines[number-1])
	if key, _, isValue := strings.Cut(line, "="); isValue && strings.Contains(key, "token") {
		line = key + "= …"
	}
	if line == "" {
		return ""
	}
	return "in the line " + withoutAddresses(line)
}

// withoutAddresses is a line with each URL cut after its scheme.
func withoutAddresses(line string) string {
	parts := strings.Split(line, "://")
	for i := 1; i < len(parts); i++ {
		end := strings.IndexAny(parts[i], "\"' ,]")
		if end < 0 {
			end = len(parts[i])
		}
		parts[i] = "…" + parts[i][end:]
	}
	return safe(strings.Join(parts, "://"))
}

// blanked is the file with spaces in place of the expressions that are not to
// be decoded. Lines and columns stay.
func (s *syntaxCheck) blanked(data []byte) []byte {
	out := bytes.Clone(data)
	for i, sp := range s.spans {
		if !sp.bad {
			continue
		}
		end := len(out)
		if i+1 < len(s.spans) {
			end = s.spans[i+1].start
		}
		for j := sp.start; j < end; j++ {
			if out[j] != '\n' {
				out[j] = ' '
			}
		}
	}
	return out
}

// blankOut marks the expression at a position, and the keys below it where it is
// a header, as not to be decoded. It reports whether there was one.
func (s *syntaxCheck) blankOut(data []byte, at position) bool {
	offset := 0
	for range at.line - 1 {
		offset += bytes.IndexByte(data[offset:], '\n') + 1
	}
	next := sort.Search(len(s.spans), func(i int) bool { return s.spans[i].start > offset })
	if at.line == 0 || next == 0 || s.spans[next-1].bad {
		return false
	}
	s.spans[next-1].bad = true
	for i := next; s.spans[next-1].header && i < len(s.spans) && !s.spans[i].header; i++ {
		s.spans[i].bad = true
	}
	return true
}
