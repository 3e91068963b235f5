package realm

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// decoder reads nodes into values. Where it cannot, it reports the problem and
// leaves the value as it was, which is the default.
type decoder struct{ *collector }

// field is one key that a mapping may have.
type field struct {
	key  string
	read func(n *node, path string)
}

// mapping reads a mapping that may have the given keys and no others.
func (d decoder) mapping(n *node, path string, fields ...field) {
	if !d.expect(n, path, mapping) {
		return
	}
	seen := map[string]position{}
	for _, e := range n.entries {
		at := join(path, e.key)
		if first, again := seen[e.key]; again {
			d.errorOnce(duplicateKey(at, e.at), e.at, at, "is given a second time, first in line %d; remove one", first.line)
			continue
		}
		seen[e.key] = e.at
		f := find(fields, e.key)
		if f == nil {
			d.errorAt(e.at, at, "unknown key; %s", d.adviceFor(e.key, path, fields))
			continue
		}
		d.source.at[at] = e.value.at
		f.read(e.value, at)
	}
}

// duplicateKey keeps a repeated key's problem apart from problems of its first
// value, which the collector would take for the same.
func duplicateKey(path string, at position) string {
	return fmt.Sprintf("%s:%d:%d", path, at.line, at.column)
}

func find(fields []field, key string) *field {
	for i := range fields {
		if fields[i].key == key {
			return &fields[i]
		}
	}
	return nil
}

// adviceFor says what to write instead of an unknown key.
func (d decoder) adviceFor(key, path string, fields []field) string {
	if key == "matcher" && strings.Contains(path, ".templates[") {
		return "a template has no matcher, each subscriber gives its own; remove it"
	}
	keys := make([]string, len(fields))
	for i, f := range fields {
		keys[i] = f.key
	}
	return didYouMean(key, "the keys here", keys)
}

// sequence reads each item of a list. An empty value is an empty list.
func (d decoder) sequence(n *node, path string, read func(n *node, path string)) {
	if n.shape == null || !d.expect(n, path, sequence) {
		return
	}
	for i, item := range n.items {
		at := fmt.Sprintf("%s[%d]", path, i)
		d.source.at[at] = item.at
		read(item, at)
	}
}

// expect reports a node of another shape.
func (d decoder) expect(n *node, path string, want shape) bool {
	if n.shape == want {
		return true
	}
	if want == mapping || want == sequence {
		d.broken[path] = true
	}
	switch {
	case n.shape == null:
		d.errorf(path, "is empty; give %s or remove the key", want)
	case want == text && n.shape < sequence:
		d.errorf(path, "is %s, not text; put it in quotes: %q", n.shape, n.text)
	default:
		d.errorf(path, "is %s where %s is needed; write %s", n.shape, want, example(want))
	}
	return false
}

func example(s shape) string {
	return [...]string{"nothing", "a word", "such as 3", "such as 1.5", "true", "a list: [a, b]", "a mapping: {key: value}"}[s]
}

// text returns a function that reads text into value.
func (d decoder) text(value *string) func(*node, string) {
	return func(n *node, path string) {
		if d.expect(n, path, text) {
			*value = n.text
		}
	}
}

// texts reads a list of text.
func (d decoder) texts(value *[]string) func(*node, string) {
	return func(n *node, path string) {
		d.sequence(n, path, func(n *node, path string) {
			var s string
			d.text(&s)(n, path)
			*value = append(*value, s)
		})
	}
}

// number reads a whole number from low to high.
func (d decoder) number(value *int, low, high int) func(*node, string) {
	return func(n *node, path string) {
		if !d.expect(n, path, integer) {
			return
		}
		got, err := strconv.ParseInt(n.text, 0, 64)
		if err != nil || got < int64(low) || got > int64(high) {
			d.errorf(path, "is %s; write a whole number from %d to %d", n.text, low, high)
			return
		}
		*value = int(got)
	}
}

// count reads a whole number from 0 on.
func (d decoder) count(value *int64) func(*node, string) {
	return func(n *node, path string) {
		if !d.expect(n, path, integer) {
			return
		}
		got, err := strconv.ParseInt(n.text, 0, 64)
		if err != nil || got < 0 {
			d.errorf(path, "is %s; write a whole number from 0 (no limit) on", n.text)
			return
		}
		*value = got
	}
}

// size reads a number of bytes from low on.
func (d decoder) size(value *int64, low int64) func(*node, string) {
	return func(n *node, path string) {
		if n.shape != text && n.shape != integer {
			d.errorf(path, "is %s where a size is needed; write such as 64k, 512MB, 1GiB", n.shape)
			return
		}
		got, err := ParseSize(n.text)
		switch {
		case err != nil:
			d.errorf(path, "%q %s", n.text, err)
		case got < low:
			d.errorf(path, "is %s; write at least %s", n.text, FormatSize(low))
		default:
			*value = got
		}
	}
}

// duration reads a duration above zero.
func (d decoder) duration(value *time.Duration) func(*node, string) {
	return func(n *node, path string) {
		if n.shape != text && n.shape != integer && n.shape != float {
			d.errorf(path, "is %s where a duration is needed; write such as 50ms or 1m30s", n.shape)
			return
		}
		got, err := parseDuration(n.text)
		if err != nil {
			d.errorf(path, "%s", err)
			return
		}
		*value = got
	}
}

// choice reads one of words into an enumeration that counts them from 1.
func choice[E ~uint8](d decoder, value *E, words []string) func(*node, string) {
	return func(n *node, path string) {
		if !d.expect(n, path, text) {
			return
		}
		for i, w := range words {
			if n.text == w {
				*value = E(i + 1)
				return
			}
		}
		d.errorf(path, "%q is none of %s; %s", n.text, list(words), didYouMean(n.text, "the choices", words))
	}
}

var plainKey = regexp.MustCompile(`^[\p{L}_][\p{L}\p{N}_-]*$`)

// join appends a key to a path. Keys that would make the path ambiguous are
// quoted.
func join(path, key string) string {
	if !plainKey.MatchString(key) {
		return fmt.Sprintf("%s[%q]", path, key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}
