package realm

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// maxProblems bounds what one document can make us say.
const maxProblems = 100

// Problem is one thing wrong with a definition.
type Problem struct {
	File    string // as given to Parse; may be empty
	Line    int    // from 1 on; 0 if the definition has no document
	Column  int    // from 1 on, in characters
	Path    string // such as clusters[0].stores[1].byte_limit
	Message string // what is wrong; what to do
	Warning bool   // allowed, but probably not meant
}

// String returns FILE:LINE:COL: PATH: what is wrong; what to do.
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		b.WriteByte(':')
	}
	if p.Line > 0 {
		fmt.Fprintf(&b, "%d:%d:", p.Line, p.Column)
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	b.WriteString(p.Path)
	b.WriteString(": ")
	if p.Warning {
		b.WriteString("warning: ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// Problems is the error that holds everything wrong with a definition, in the
// order of the document. Warnings among them are not what made it an error.
type Problems []Problem

// Error returns one problem a line.
func (p *Problems) Error() string {
	lines := make([]string, len(*p))
	for i, problem := range *p {
		lines[i] = problem.String()
	}
	return strings.Join(lines, "\n")
}

type position struct{ line, column int }

// source remembers where a document said what, so that problems found later can
// point there.
type source struct {
	file string
	at   map[string]position // by path; of the value
}

// of returns where path is or, if the document does not have it, the nearest
// thing around it.
func (s *source) of(path string) position {
	for {
		if at, ok := s.at[path]; ok {
			return at
		}
		cut := strings.LastIndexAny(path, ".[")
		if cut < 0 {
			return s.at[""]
		}
		path = path[:cut]
	}
}

func (s *source) has(path string) bool {
	_, ok := s.at[path]
	return ok
}

// collector gathers problems, at most one error for each path: what follows
// from a first mistake is not worth a second line.
type collector struct {
	source   source
	list     []Problem
	reported map[string]bool
	broken   map[string]bool // paths whose value has the wrong shape
	errors   int
}

func newCollector(s source) *collector {
	if s.at == nil {
		s.at = map[string]position{}
	}
	return &collector{source: s, reported: map[string]bool{}, broken: map[string]bool{}}
}

// errorf reports that the value at path is wrong.
func (c *collector) errorf(path, format string, args ...any) {
	c.errorAt(c.source.of(path), path, format, args...)
}

// errorAt is errorf where the place is not that of the value. It says nothing
// about what is inside of something whose shape is wrong.
func (c *collector) errorAt(at position, path, format string, args ...any) {
	for above := path; len(c.broken) > 0; {
		cut := strings.LastIndexAny(above, ".[")
		if cut < 0 {
			break
		}
		if above = above[:cut]; c.broken[above] {
			return
		}
	}
	c.errorOnce(path, at, path, format, args...)
}

// errorOnce reports a problem unless one was reported under the same key.
func (c *collector) errorOnce(key string, at position, path, format string, args ...any) {
	if c.reported[key] {
		return
	}
	c.reported[key] = true
	if c.errors++; c.errors <= maxProblems {
		c.add(at, path, fmt.Sprintf(format, args...), false)
	}
}

// warnf reports that the value at path is probably not meant.
func (c *collector) warnf(path, format string, args ...any) {
	if len(c.list) < 2*maxProblems {
		c.add(c.source.of(path), path, fmt.Sprintf(format, args...), true)
	}
}

func (c *collector) add(at position, path, message string, warning bool) {
	if path == "" {
		path = "document"
	}
	c.list = append(c.list, Problem{
		File: c.source.file, Line: at.line, Column: at.column,
		Path: path, Message: oneLine(message), Warning: warning,
	})
}

// sorted returns all problems in the order of the document.
func (c *collector) sorted() []Problem {
	slices.SortStableFunc(c.list, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	if rest := c.errors - maxProblems; rest > 0 {
		last := c.list[len(c.list)-1]
		return append(c.list[:len(c.list):len(c.list)], Problem{
			File: c.source.file, Line: last.Line, Column: last.Column, Path: "document",
			Message: fmt.Sprintf("%d more problems are not shown; mend these first", rest),
		})
	}
	return c.list
}
