package realm

// Parse reads a definition from YAML or JSON. file is for messages only.
//
// The realm is complete: defaults are filled in. If anything is wrong the error
// is a *Problems with all of it. Warnings alone are no error: see
// [Realm.Warnings]. data is not kept.
func Parse(file string, data []byte) (*Realm, error) {
	c := newCollector(source{file: file})
	r := &Realm{}
	if root := readTree(data, c); root != nil {
		c.source.at[""] = root.at
		d := decoder{c}
		d.realm(root, r)
		if root.shape == mapping {
			checker{c}.realm(r)
		}
	}
	return r.settle(c)
}

// Validate fills in defaults and checks a realm that was built by hand. The
// error, if any, is a *Problems without lines.
func (r *Realm) Validate() error {
	r.fill()
	c := newCollector(source{})
	checker{c}.realm(r)
	_, err := r.settle(c)
	return err
}

// settle ends reading with what was found.
func (r *Realm) settle(c *collector) (*Realm, error) {
	problems := c.sorted()
	if c.errors > 0 {
		return nil, (*Problems)(&problems)
	}
	r.source, r.warnings = c.source, problems
	return r, nil
}

func (d decoder) realm(n *node, r *Realm) {
	d.mapping(n, "",
		field{"realm", d.text(&r.Name)},
		field{"clusters", func(n *node, path string) {
			d.sequence(n, path, func(n *node, path string) {
				r.Clusters = append(r.Clusters, d.cluster(n, path))
			})
		}},
		field{"endpoints", func(n *node, path string) {
			d.sequence(n, path, func(n *node, path string) {
				r.Endpoints = append(r.Endpoints, d.endpoint(n, path))
			})
		}},
	)
}

func (d decoder) cluster(n *node, path string) Cluster {
	c := Cluster{Durability: Sync, Tuning: Tuning{Profile: DefaultProfile}}
	fields := []field{
		{"name", d.text(&c.Name)},
		{"durability", choice(d, &c.Durability, durabilityWords)},
		{"profile", choice(d, &c.Tuning.Profile, profileWords)},
	}
	for i, value := range c.Tuning.durations() {
		fields = append(fields, field{tuningKeys[i], d.duration(value)})
	}
	fields = append(fields,
		field{"backup", func(n *node, path string) {
			c.Backup.Keep = DefaultBackupKeep
			d.mapping(n, path, field{"every", d.duration(&c.Backup.Every)}, field{"keep", d.number(&c.Backup.Keep, 1, MaxBackupKeep)})
		}},
		field{"services", func(n *node, path string) {
			d.sequence(n, path, func(n *node, path string) {
				c.Services = append(c.Services, d.service(n, path))
			})
		}},
		field{"stores", func(n *node, path string) {
			d.sequence(n, path, func(n *node, path string) {
				c.Stores = append(c.Stores, d.store(n, path))
			})
		}},
	)
	d.mapping(n, path, fields...)
	c.Tuning.fill()
	return c
}

func (d decoder) service(n *node, path string) Service {
	s := Service{Weight: MaxWeight}
	d.mapping(n, path,
		field{"name", d.text(&s.Name)},
		field{"server", d.text(&s.Server)},
		field{"weight", d.number(&s.Weight, 1, MaxWeight)},
		field{"description", d.text(&s.Description)},
	)
	return s
}

func (d decoder) store(n *node, path string) Store {
	s := Store{PublisherMode: Confirm, MaxMessageSize: DefaultMaxMessageSize}
	d.mapping(n, path,
		field{"name", d.text(&s.Name)},
		field{"publisher_mode", choice(d, &s.PublisherMode, modeWords)},
		field{"byte_limit", d.size(&s.ByteLimit, 0)},
		field{"message_limit", d.count(&s.MessageLimit)},
		field{"max_message_size", d.size(&s.MaxMessageSize, 1)},
		field{"dynamic_durable_limit", d.count(&s.DynamicDurableLimit)},
		field{"durables", func(n *node, path string) {
			d.sequence(n, path, func(n *node, path string) {
				s.Durables = append(s.Durables, d.durable(n, path))
			})
		}},
		field{"templates", func(n *node, path string) {
			d.sequence(n, path, func(n *node, path string) {
				s.Templates = append(s.Templates, d.template(n, path))
			})
		}},
	)
	return s
}

func (d decoder) durable(n *node, path string) Durable {
	var out Durable
	d.mapping(n, path,
		field{"name", d.text(&out.Name)},
		field{"type", d.kind(&out.Kind)},
		field{"matcher", d.matcher(&out.Matcher)},
		field{"prefetch", d.number(&out.Prefetch, 1, MaxPrefetch)},
	)
	if out.Prefetch == 0 {
		out.Prefetch = DefaultPrefetch(out.Kind)
	}
	return out
}

func (d decoder) template(n *node, path string) Template {
	var out Template
	d.mapping(n, path,
		field{"name", d.text(&out.Name)},
		field{"type", d.kind(&out.Kind)},
		field{"prefetch", d.number(&out.Prefetch, 1, MaxPrefetch)},
	)
	if out.Prefetch == 0 {
		out.Prefetch = DefaultPrefetch(out.Kind)
	}
	return out
}

// kind reads the type of a durable or template.
func (d decoder) kind(value *Kind) func(*node, string) {
	read := choice(d, value, kindWords)
	return func(n *node, path string) {
		if n.text == "last-value" || n.text == "map" {
			d.errorf(path, "%q comes with a later version; use standard or shared", n.text)
			return
		}
		read(n, path)
	}
}

// matcher reads matcher text; the checker parses it.
func (d decoder) matcher(value *string) func(*node, string) {
	return func(n *node, path string) {
		if n.shape == mapping {
			d.errorf(path, `is a YAML mapping; put the matcher in quotes, such as '{"origin":"LAS"}'`)
			return
		}
		d.text(value)(n, path)
	}
}

func (d decoder) endpoint(n *node, path string) Endpoint {
	var e Endpoint
	var template string
	d.mapping(n, path,
		field{"name", d.text(&e.Name)},
		field{"store", d.text(&e.Store)},
		field{"template", d.text(&template)},
		field{"templates", d.texts(&e.Templates)},
		field{"default_durable", d.text(&e.DefaultDurable)},
		field{"subscribers", d.subscribers(&e.Subscribers)},
	)
	short, long := join(path, "template"), join(path, "templates")
	switch {
	case d.source.has(short) && d.source.has(long):
		d.errorf(short, "is given beside templates; keep one, `template: x` is short for `templates: [x]`")
	case d.source.has(short) && !d.reported[short]:
		e.Templates = []string{template}
	}
	return e
}

// subscribers reads a mapping of any keys to durable names.
func (d decoder) subscribers(value *map[string]string) func(*node, string) {
	return func(n *node, path string) {
		if n.shape == null || !d.expect(n, path, mapping) {
			return
		}
		seen := map[string]position{}
		*value = make(map[string]string, len(n.entries))
		for _, e := range n.entries {
			at := join(path, e.key)
			if first, again := seen[e.key]; again {
				d.errorOnce(duplicateKey(at, e.at), e.at, at, "is given a second time, first in line %d; remove one", first.line)
				continue
			}
			seen[e.key] = e.at
			d.source.at[at] = e.value.at
			var durable string
			d.text(&durable)(e.value, at)
			(*value)[e.key] = durable
		}
	}
}
