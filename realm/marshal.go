package realm

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Marshal writes the canonical document: every value, in one order, so that
// equal realms give equal bytes. Parse reads it back to an equal realm. It
// fails if the realm is not valid, and does not change it.
func Marshal(r *Realm) ([]byte, error) {
	r = r.Clone()
	if err := r.Validate(); err != nil {
		return nil, fmt.Errorf("realm: not written, because it is not valid: %w", err)
	}
	w := &writer{}
	w.line(0, "realm: %s", quote(r.Name))
	if len(r.Clusters) > 0 {
		w.line(0, "clusters:")
	}
	for i := range r.Clusters {
		w.cluster(&r.Clusters[i])
	}
	if len(r.Endpoints) > 0 {
		w.line(0, "endpoints:")
	}
	for i := range r.Endpoints {
		w.endpoint(&r.Endpoints[i])
	}
	return []byte(w.String()), nil
}

// Clone returns a copy that shares nothing that Validate changes.
func (r *Realm) Clone() *Realm {
	out := *r
	out.Endpoints = slices.Clone(r.Endpoints)
	for i := range out.Endpoints {
		e := &out.Endpoints[i]
		e.Templates, e.Subscribers = slices.Clone(e.Templates), maps.Clone(e.Subscribers)
	}
	out.Clusters = slices.Clone(r.Clusters)
	for i := range out.Clusters {
		c := &out.Clusters[i]
		c.Services, c.Stores = slices.Clone(c.Services), slices.Clone(c.Stores)
		for j := range c.Stores {
			s := &c.Stores[j]
			s.Durables, s.Templates = slices.Clone(s.Durables), slices.Clone(s.Templates)
		}
	}
	return &out
}

type writer struct{ strings.Builder }

func (w *writer) line(indent int, format string, args ...any) {
	w.WriteString(strings.Repeat("  ", indent))
	fmt.Fprintf(w, format, args...)
	w.WriteByte('\n')
}

func (w *writer) cluster(c *Cluster) {
	w.line(1, "- name: %s", quote(c.Name))
	w.line(2, "durability: %s", c.Durability)
	w.line(2, "profile: %s", c.Tuning.Profile)
	for i, value := range c.Tuning.durations() {
		w.line(2, "%s: %s", tuningKeys[i], *value)
	}
	if c.Backup.Every != 0 {
		w.line(2, "backup: %s", c.Backup)
	}
	w.line(2, "services:")
	for _, s := range c.Services {
		description := ""
		if s.Description != "" {
			description = ", description: " + quote(s.Description)
		}
		w.line(3, "- {name: %s, server: %s, weight: %d%s}", quote(s.Name), quote(s.Server), s.Weight, description)
	}
	if len(c.Stores) > 0 {
		w.line(2, "stores:")
	}
	for i := range c.Stores {
		w.store(&c.Stores[i])
	}
}

func (w *writer) store(s *Store) {
	w.line(3, "- name: %s", quote(s.Name))
	w.line(4, "publisher_mode: %s", s.PublisherMode)
	w.line(4, "byte_limit: %s", FormatSize(s.ByteLimit))
	w.line(4, "message_limit: %d", s.MessageLimit)
	w.line(4, "max_message_size: %s", FormatSize(s.MaxMessageSize))
	w.line(4, "dynamic_durable_limit: %d", s.DynamicDurableLimit)
	if len(s.Durables) > 0 {
		w.line(4, "durables:")
	}
	for _, d := range s.Durables {
		matcher := ""
		if d.Matcher != "" {
			matcher = ", matcher: " + quote(d.Matcher)
		}
		w.line(5, "- {name: %s, type: %s%s, prefetch: %d}", quote(d.Name), d.Kind, matcher, d.Prefetch)
	}
	if len(s.Templates) > 0 {
		w.line(4, "templates:")
	}
	for _, t := range s.Templates {
		w.line(5, "- {name: %s, type: %s, prefetch: %d}", quote(t.Name), t.Kind, t.Prefetch)
	}
}

func (w *writer) endpoint(e *Endpoint) {
	w.line(1, "- name: %s", quote(e.Name))
	w.line(2, "store: %s", quote(e.Store))
	if len(e.Templates) > 0 {
		quoted := make([]string, len(e.Templates))
		for i, t := range e.Templates {
			quoted[i] = quote(t)
		}
		w.line(2, "templates: [%s]", strings.Join(quoted, ", "))
	}
	if e.DefaultDurable != "" {
		w.line(2, "default_durable: %s", quote(e.DefaultDurable))
	}
	if len(e.Subscribers) > 0 {
		w.line(2, "subscribers:")
	}
	for _, name := range slices.Sorted(maps.Keys(e.Subscribers)) {
		w.line(3, "%s: %s", quote(name), quote(e.Subscribers[name]))
	}
}

var (
	plainText = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._-]*$`)
	// reserved words mean something else than text in some version of YAML.
	reserved = regexp.MustCompile(`(?i)^(true|false|null|yes|no|on|off|y|n|nan|inf)$`)
)

// quote writes text so that every YAML parser reads the same text.
func quote(s string) string {
	if plainText.MatchString(s) && !reserved.MatchString(s) {
		return s
	}
	if strings.Contains(s, `"`) && !strings.ContainsFunc(s, func(r rune) bool { return r == '\'' || r == '\\' || !printable(r) }) {
		return "'" + s + "'" // a matcher, as people write it
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case printable(r):
			b.WriteRune(r)
		case r <= 0xff:
			b.WriteString(`\x` + hex(r, 2))
		case r <= 0xffff:
			b.WriteString(`\u` + hex(r, 4))
		default:
			b.WriteString(`\U` + hex(r, 8))
		}
	}
	b.WriteByte('"')
	return b.String()
}

// printable reports whether a rune may stand in quoted text as it is.
func printable(r rune) bool {
	return r == ' ' || unicode.IsGraphic(r) && !unicode.IsSpace(r)
}

func hex(r rune, digits int) string {
	s := strconv.FormatInt(int64(r), 16)
	return strings.Repeat("0", digits-len(s)) + s
}
