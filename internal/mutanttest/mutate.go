// Package mutanttest breaks functions on purpose, one place at a time, to see
// whether a test notices.
//
// All mutants of a file are compiled into it at once, each behind a switch that an
// environment variable turns on: so a package is compiled once and not once a
// mutant. The file itself is not touched: go build takes the mutated text in its
// place (-overlay).
package mutanttest

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"slices"
	"strings"
)

// Mutant is one place that is broken, and how.
type Mutant struct {
	ID   string // what turns it on
	File string
	Line int
	Func string
	How  string
	Text string // what is broken
}

// String is what identifies a mutant to a person, without the line, which moves.
func (m Mutant) String() string { return fmt.Sprintf("%s %s: %s: %s", m.File, m.Func, m.How, m.Text) }

// The ways to break a place.
const (
	Never    = "never"     // a condition is never true
	Always   = "always"    // … is always true
	Dropped  = "dropped"   // a part of a condition is left out
	Bound    = "bound"     // a comparison takes the equal the other way
	Skipped  = "skipped"   // a statement is left out
	NotAsked = "not asked" // a call whose error is returned is left out
)

// Switches is the source, for each package that has mutants, of what turns one on.
const Switches = `
import ("os"; "sync")

var mutantOn, mutantsReached = os.Getenv("ATOBACKUPD_MUTANT"), os.Getenv("ATOBACKUPD_MUTANTS_REACHED")
var mutantsSeen sync.Map

// It is open from the start: a test may act as somebody who may not open it.
var mutantsLog, _ = os.OpenFile(mutantsReached, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)

func mutant(id string) bool {
	if mutantsReached != "" {
		if _, seen := mutantsSeen.LoadOrStore(id, true); !seen {
			mutantsLog.WriteString(id + "\n")
		}
	}
	return id == mutantOn
}

func mutantError(id string, call func() error) error {
	if mutant(id) {
		return nil
	}
	return call()
}
`

// Mutate returns the text of a file with a mutant in each place of the named
// functions that it knows how to break. Functions are named as Name or Type.Name.
func Mutate(file string, source []byte, functions []string) (text []byte, mutants []Mutant, err error) {
	set := token.NewFileSet()
	parsed, err := parser.ParseFile(set, file, source, parser.SkipObjectResolution)
	if err != nil {
		return nil, nil, err
	}
	m := &mutator{set: set, source: string(source), file: file}
	missing := slices.Clone(functions)
	for _, decl := range parsed.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok || f.Body == nil || !slices.Contains(functions, name(f)) {
			continue
		}
		m.function = name(f)
		missing = slices.DeleteFunc(missing, func(n string) bool { return n == m.function })
		m.results = append(m.results, f.Type.Results)
		ast.Inspect(f.Body, m.visit)
	}
	if len(missing) > 0 {
		return nil, nil, fmt.Errorf("%s has no function %s", file, strings.Join(missing, ", "))
	}
	return []byte(m.apply()), m.mutants, nil
}

func name(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return f.Name.Name
	}
	of := f.Recv.List[0].Type
	if star, ok := of.(*ast.StarExpr); ok {
		of = star.X
	}
	if id, ok := of.(*ast.Ident); ok {
		return id.Name + "." + f.Name.Name
	}
	return f.Name.Name
}

// edit puts text around a range of the source.
type edit struct {
	from, to      int
	before, after string
}

type mutator struct {
	set      *token.FileSet
	source   string
	file     string
	function string
	stack    []ast.Node
	results  []*ast.FieldList // of the functions that enclose a node
	mutants  []Mutant
	edits    []edit
}

func (m *mutator) visit(n ast.Node) bool {
	if n == nil {
		last := m.stack[len(m.stack)-1]
		m.stack = m.stack[:len(m.stack)-1]
		if _, ok := last.(*ast.FuncLit); ok {
			m.results = m.results[:len(m.results)-1]
		}
		return false
	}
	m.stack = append(m.stack, n)
	switch n := n.(type) {
	case *ast.FuncLit:
		m.results = append(m.results, n.Type.Results)
	case *ast.IfStmt:
		m.condition(n.Cond)
	case *ast.SwitchStmt:
		if n.Tag == nil {
			for _, s := range n.Body.List {
				for _, condition := range s.(*ast.CaseClause).List {
					m.condition(condition)
				}
			}
		}
	case *ast.BlockStmt:
		m.statements(n.List)
	case *ast.CaseClause:
		m.statements(n.Body)
	case *ast.BinaryExpr:
		m.binary(n)
	case *ast.ReturnStmt:
		m.returns(n)
	}
	return true
}

func (m *mutator) condition(e ast.Expr) {
	m.add(e, Never, "(", ") && !mutant(%[1]s)")
	m.add(e, Always, "((", ") || mutant(%[1]s))")
}

func (m *mutator) binary(e *ast.BinaryExpr) {
	switch e.Op {
	case token.LAND, token.LOR:
		for _, part := range []ast.Expr{e.X, e.Y} {
			if inner, ok := part.(*ast.BinaryExpr); ok && inner.Op == e.Op {
				continue // its own parts are
			}
			if e.Op == token.LAND {
				m.add(part, Dropped, "((", ") || mutant(%s))")
			} else {
				m.add(part, Dropped, "((", ") && !mutant(%s))")
			}
		}
	case token.LSS, token.GTR:
		m.add(e, Bound, "((", ") || mutant(%s) && ("+m.text(e.X)+") == ("+m.text(e.Y)+"))")
	case token.LEQ, token.GEQ:
		m.add(e, Bound, "((", ") && !(mutant(%s) && ("+m.text(e.X)+") == ("+m.text(e.Y)+")))")
	}
}

// uninteresting are the calls without which a program hangs, or only says less.
var uninteresting = regexp.MustCompile(`(Lock|Unlock|Add|Done|Close|Tell|Info|Warn|Error|Debug)\(.*\)$`)

func (m *mutator) statements(list []ast.Stmt) {
	for _, s := range list {
		switch s := s.(type) {
		case *ast.ExprStmt:
			if !uninteresting.MatchString(m.text(s)) {
				m.add(s, Skipped, "if !mutant(%s) { ", " }")
			}
		case *ast.IncDecStmt:
			m.add(s, Skipped, "if !mutant(%s) { ", " }")
		case *ast.AssignStmt:
			if s.Tok != token.DEFINE {
				m.add(s, Skipped, "if !mutant(%s) { ", " }")
			}
		}
	}
}

func (m *mutator) returns(s *ast.ReturnStmt) {
	results := m.results[len(m.results)-1]
	if results == nil || len(s.Results) == 0 || len(s.Results) != results.NumFields() {
		return
	}
	last, ok := results.List[len(results.List)-1].Type.(*ast.Ident)
	call, isCall := s.Results[len(s.Results)-1].(*ast.CallExpr)
	if !ok || last.Name != "error" || !isCall {
		return
	}
	switch m.text(call.Fun) {
	case "errors.New", "fmt.Errorf": // the condition above is broken already
		return
	}
	m.add(call, NotAsked, "mutantError(%s, func() error { return ", " })")
}

func (m *mutator) text(n ast.Node) string {
	return m.source[m.set.Position(n.Pos()).Offset:m.set.Position(n.End()).Offset]
}

// add notes a mutant that puts text around a node; %s becomes its ID, quoted.
func (m *mutator) add(n ast.Node, how, before, after string) {
	at := m.set.Position(n.Pos())
	id := fmt.Sprintf("%s:%d:%d:%s", m.file, at.Line, at.Column, strings.ReplaceAll(how, " ", "-"))
	text := strings.Join(strings.Fields(m.text(n)), " ")
	m.mutants = append(m.mutants, Mutant{id, m.file, at.Line, m.function, how, text})
	quoted := fmt.Sprintf("%q", id)
	fill := func(s string) string {
		return strings.NewReplacer("%[1]s", quoted, "%s", quoted).Replace(s)
	}
	m.edits = append(m.edits, edit{at.Offset, m.set.Position(n.End()).Offset, fill(before), fill(after)})
}

// apply makes all edits. They nest: of two that begin at one place the one that was
// added first is outside; a condition and the parts of it are added in that order.
func (m *mutator) apply() string {
	type insertion struct {
		at    int
		order int
		text  string
	}
	var all []insertion
	for i, e := range m.edits {
		all = append(all, insertion{e.from, i, e.before}, insertion{e.to, -i - 1, e.after})
	}
	slices.SortStableFunc(all, func(a, b insertion) int { return cmp.Or(a.at-b.at, a.order-b.order) })
	var out strings.Builder
	at := 0
	for _, i := range all {
		out.WriteString(m.source[at:i.at])
		out.WriteString(i.text)
		at = i.at
	}
	out.WriteString(m.source[at:])
	return out.String()
}
