package realm

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// maxDepth bounds how deep collections nest. The deepest place of a definition
// is at 6; the YAML parser is recursive, so something must stop it.
const maxDepth = 64

// shape is what a node is.
type shape uint8

const (
	null shape = iota
	text
	integer
	float
	boolean
	sequence
	mapping
)

var shapeWords = [...]string{"empty", "text", "a whole number", "a number with a fraction", "true or false", "a list", "a mapping"}

func (s shape) String() string { return shapeWords[s] }

// node is a document's node, stripped of what YAML allows and we do not.
type node struct {
	shape   shape
	at      position
	text    string // of scalars: text decoded, the others as written
	entries []entry
	items   []*node
}

type entry struct {
	key   string
	at    position // of the key
	value *node
}

// readTree turns a document into nodes. It reports what it cannot read; nil
// means that there is nothing to go on with.
func readTree(data []byte, c *collector) *node {
	start := position{1, 1}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	switch {
	case len(data) > MaxDocument:
		c.errorAt(start, "", "has %s bytes, at most %s are read; split the realm or shorten the document",
			FormatSize(int64(len(data))), FormatSize(MaxDocument))
		return nil
	case !utf8.Valid(data):
		c.errorAt(badUTF8(data), "", "is not UTF-8; save the file in UTF-8")
		return nil
	case bytes.IndexByte(data, 0) >= 0:
		c.errorAt(start, "", "contains zero bytes; give a YAML or JSON file")
		return nil
	}
	source := string(data)
	if strings.HasPrefix(strings.TrimSpace(source), "{") {
		// JSON may be indented with tabs, YAML may not. In JSON a tab is never
		// inside of a string, and so nothing else changes.
		source = strings.ReplaceAll(source, "\t", " ")
	}
	return parseTree(source, c)
}

// parseTree calls the library, which has been seen to panic on strange input.
func parseTree(source string, c *collector) (root *node) {
	defer func() {
		if recover() != nil {
			c.errorAt(position{1, 1}, "", "cannot be read as YAML or JSON; check brackets, quotes and indentation")
			root = nil
		}
	}()
	tokens := lexer.Tokenize(source)
	if !checkTokens(tokens, c) {
		return nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		reportSyntax(err, c)
		return nil
	}
	var body ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if body != nil {
			c.errorAt(positionOf(doc.Body), "", "holds a second document; keep one realm in a file")
			return nil
		}
		body = doc.Body
	}
	if body == nil {
		c.errorAt(position{1, 1}, "", "is empty; begin with `realm: NAME`")
		return nil
	}
	return convert(body, c)
}

// checkTokens refuses what would make the parser recurse without bound, and the
// features of YAML that make a definition mean something else than it shows.
func checkTokens(tokens token.Tokens, c *collector) bool {
	depth, ok := 0, true
	refuse := func(t *token.Token, format string, args ...any) {
		at := tokenPosition(t)
		// Several of them in a document are several problems.
		c.errorOnce(fmt.Sprintf("token %d:%d", at.line, at.column), at, "", format, args...)
		ok = false
	}
	for _, t := range tokens {
		switch t.Type {
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			refuse(t, "uses a YAML anchor, alias or merge (%s); write the value out", t.Value)
		case token.TagType, token.DirectiveType:
			refuse(t, "uses a YAML tag or directive (%s); remove it", t.Value)
		case token.MappingStartType, token.SequenceStartType:
			depth++
		case token.MappingEndType, token.SequenceEndType:
			depth--
		case token.SequenceEntryType, token.MappingKeyType, token.MappingValueType:
			// Block collections can only nest by moving to the right.
			if depth == 0 && t.Position.Column > 8*maxDepth && t.Type != token.MappingValueType {
				refuse(t, "nests too deeply; see the documentation for the shape of a definition")
				return false
			}
			if t.Type == token.MappingKeyType {
				refuse(t, "uses a complex YAML key (?); write `key: value`")
			}
		}
		if depth > maxDepth {
			refuse(t, "nests too deeply; see the documentation for the shape of a definition")
			return false
		}
	}
	return ok
}

func reportSyntax(err error, c *collector) {
	at, message := position{1, 1}, err.Error()
	var syntax yaml.Error
	if errors.As(err, &syntax) {
		message = syntax.GetMessage()
		if t := syntax.GetToken(); t != nil {
			at = tokenPosition(t)
		}
	}
	c.errorAt(at, "", "is not valid YAML or JSON: %s; check brackets, quotes and indentation here and in the line before",
		strings.ReplaceAll(strings.TrimSpace(message), "'\t'", "tab"))
}

// convert turns the library's nodes into ours.
func convert(n ast.Node, c *collector) *node {
	out := &node{at: positionOf(n)}
	switch n := n.(type) {
	case *ast.MappingNode:
		out.shape = mapping
		for _, value := range n.Values {
			out.entries = append(out.entries, convertEntry(value, c))
		}
	case *ast.MappingValueNode:
		out.shape, out.entries = mapping, []entry{convertEntry(n, c)}
	case *ast.SequenceNode:
		out.shape = sequence
		for _, item := range n.Values {
			out.items = append(out.items, convert(item, c))
		}
	case *ast.StringNode:
		out.shape, out.text = text, n.Value
	case *ast.LiteralNode:
		out.shape, out.text = text, n.Value.Value
	case *ast.IntegerNode:
		out.shape, out.text = integer, n.Token.Value
	case *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		out.shape, out.text = float, n.GetToken().Value
	case *ast.BoolNode:
		out.shape, out.text = boolean, n.Token.Value
	case *ast.NullNode, nil:
		out.shape = null
	default:
		c.errorAt(out.at, "", "uses a feature of YAML that is not supported (%s); write plain values", n.Type())
	}
	return out
}

func convertEntry(n *ast.MappingValueNode, c *collector) entry {
	e := entry{at: positionOf(n.Key), value: convert(n.Value, c)}
	switch key := n.Key.(type) {
	case *ast.StringNode:
		e.key = key.Value
	default:
		e.key = n.Key.GetToken().Value
	}
	if e.value.shape == null {
		e.value.at = e.at
	}
	return e
}

// positionOf returns where a node begins; for a block mapping that is its first
// key, not the colon that the library names.
func positionOf(n ast.Node) position {
	switch n := n.(type) {
	case nil:
		return position{}
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return positionOf(n.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return positionOf(n.Key)
	}
	if t := n.GetToken(); t != nil {
		return tokenPosition(t)
	}
	return position{}
}

func tokenPosition(t *token.Token) position {
	if t.Position == nil {
		return position{1, 1}
	}
	return position{t.Position.Line, t.Position.Column}
}

func badUTF8(data []byte) position {
	at := position{1, 1}
	for len(data) > 0 {
		r, size := utf8.DecodeRune(data)
		if r == utf8.RuneError && size == 1 {
			break
		}
		if at.column++; r == '\n' {
			at.line, at.column = at.line+1, 1
		}
		data = data[size:]
	}
	return at
}
