package realm

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/perdure/perdure/message"
)

func (c checker) store(path string, s *Store) {
	if !known(uint8(s.PublisherMode), modeWords) {
		c.errorf(join(path, "publisher_mode"), "%s; choose one of %s", s.PublisherMode, list(modeWords))
	}
	c.notNegative(join(path, "byte_limit"), s.ByteLimit)
	c.notNegative(join(path, "message_limit"), s.MessageLimit)
	c.notNegative(join(path, "dynamic_durable_limit"), s.DynamicDurableLimit)
	if s.MaxMessageSize < 1 || s.MaxMessageSize > message.HardMaxMessageSize {
		c.errorf(join(path, "max_message_size"), "is %s; use 1 byte to %s", FormatSize(s.MaxMessageSize), FormatSize(message.HardMaxMessageSize))
	}
	durables := newNames("durable", "a store")
	for i := range s.Durables {
		at, d := fmt.Sprintf("%s.durables[%d]", path, i), &s.Durables[i]
		c.unique(durables, join(at, "name"), d.Name)
		c.kind(at, d.Kind)
		c.within(join(at, "prefetch"), int64(d.Prefetch), 1, MaxPrefetch)
		c.matcher(join(at, "matcher"), &d.Matcher)
	}
	templates := newNames("template", "a store")
	for i, t := range s.Templates {
		at := fmt.Sprintf("%s.templates[%d]", path, i)
		c.unique(templates, join(at, "name"), t.Name)
		c.kind(at, t.Kind)
		c.within(join(at, "prefetch"), int64(t.Prefetch), 1, MaxPrefetch)
		if _, builtin := Builtin(t.Name); builtin {
			c.errorf(join(at, "name"), "%q is built in; choose another name", t.Name)
		}
	}
}

func (c checker) notNegative(path string, value int64) {
	if value < 0 {
		c.errorf(path, "is %d; write a number from 0 (no limit) on", value)
	}
}

func (c checker) kind(path string, k Kind) {
	path = join(path, "type")
	switch {
	case k == 0 && !c.source.has(path):
		c.errorf(path, "is missing; choose one of %s", list(kindWords))
	case !known(uint8(k), kindWords):
		c.errorf(path, "%s; choose one of %s", k, list(kindWords))
	}
}

// matcher parses a matcher and makes it canonical, so that equal ones have equal
// text.
func (c checker) matcher(path string, text *string) {
	if *text == "" {
		return
	}
	m, err := message.ParseMatcher(*text)
	if err != nil {
		what := err.Error()
		if syntax := (*message.SyntaxError)(nil); errors.As(err, &syntax) {
			what = fmt.Sprintf("at byte %d of the matcher: %s", syntax.Offset+1, syntax.Problem)
		}
		c.errorf(path, `%s; write a JSON object such as {"origin":"LAS","delayed":true}`, what)
		return
	}
	if *text = m.String(); *text == "{}" {
		*text = ""
	}
}

func (c checker) endpoint(path string, r *Realm, e *Endpoint) {
	at := join(path, "store")
	if e.Store == "" {
		c.errorf(at, "is missing; name the store that the endpoint leads to")
		return
	}
	_, store := r.Store(e.Store)
	if store == nil {
		c.errorf(at, "there is no store %q; %s", e.Store, didYouMean(e.Store, "stores", storeNames(r)))
		return
	}
	c.templates(path, store, e.Templates)
	if at := join(path, "default_durable"); e.DefaultDurable != "" {
		c.static(at, store, e.DefaultDurable)
	} else if c.source.has(at) {
		c.errorf(at, "is empty; name a durable of store %q or remove the key", store.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Subscribers)) {
		at := join(join(path, "subscribers"), name)
		if c.name(at, name, "subscriber") {
			c.static(at, store, e.Subscribers[name])
		}
	}
}

// static checks that a name is that of a static durable of the store.
func (c checker) static(path string, s *Store, name string) {
	if s.Durable(name) != nil {
		return
	}
	durables := make([]string, len(s.Durables))
	for i, d := range s.Durables {
		durables[i] = d.Name
	}
	c.errorf(path, "store %q has no durable %q; %s", s.Name, name, didYouMean(name, "its durables", durables))
}

// templates checks what an endpoint makes dynamic durables from.
func (c checker) templates(path string, s *Store, templates []string) {
	ofKind := make([]string, len(kindWords)+1)
	for i, name := range templates {
		at := join(path, "template")
		if !c.source.has(at) {
			at = fmt.Sprintf("%s.templates[%d]", path, i)
		}
		t, ok := s.Template(name)
		if !ok {
			c.errorf(at, "store %q has no template %q; %s", s.Name, name, didYouMean(name, "templates", templateNames(s)))
			continue
		}
		if !known(uint8(t.Kind), kindWords) {
			continue // reported where it is defined
		}
		if other := ofKind[t.Kind]; other != "" {
			c.errorf(at, "%q makes %s durables as %q does; keep one template of each type", name, t.Kind, other)
			continue
		}
		ofKind[t.Kind] = name
	}
}

func templateNames(s *Store) []string {
	var out []string
	for _, t := range s.Templates {
		out = append(out, t.Name)
	}
	return append(out, BuiltinStandard, BuiltinShared)
}

func storeNames(r *Realm) []string {
	var out []string
	for i := range r.Clusters {
		for _, s := range r.Clusters[i].Stores {
			out = append(out, s.Name)
		}
	}
	return out
}
