package realm_test

import (
	"strings"
	"testing"

	"github.com/perdure/perdure/realm"
)

const before = `realm: demo
clusters:
  - name: main
    services:
      - {name: m1, server: s1}
      - {name: m2, server: s2}
      - {name: m3, server: s3}
    stores:
      - name: flights
        byte_limit: 1GiB
        durables:
          - {name: audit, type: standard}
          - {name: delays, type: shared, matcher: '{"delayed":true}'}
        templates:
          - {name: by-airport, type: standard}
      - {name: crews}
endpoints:
  - {name: flights, store: flights, template: by-airport, default_durable: audit, subscribers: {billing: audit}}
`

func parse(t *testing.T, text string) *realm.Realm {
	t.Helper()
	r, err := realm.Parse("new.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// edit replaces pairs of text, each of which must be there.
func edit(t *testing.T, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("nothing to replace: %q", pairs[i])
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

func TestDiff(t *testing.T) {
	const store = "clusters[main].stores[flights]"
	for _, c := range []struct {
		name string
		edit []string
		want []string
	}{
		{"nothing", nil, nil},
		{"a comment", []string{"realm: demo", "# a comment\nrealm: demo"}, nil},
		{"realm name", []string{"realm: demo", "realm: prod"}, []string{"update realm: realm: demo -> prod"}},
		{"limits", []string{"byte_limit: 1GiB", "message_limit: 5"},
			[]string{"update " + store + ": byte_limit: 1GiB -> none, message_limit: none -> 5"}},
		{"backups", []string{"name: main\n", "name: main\n    backup: {every: 1h, keep: 3}\n"},
			[]string{"update clusters[main]: backup: none -> {every: 1h0m0s, keep: 3}"}},
		{"tuning", []string{"name: main\n", "name: main\n    profile: fast\n"},
			[]string{"update clusters[main]: profile: default -> fast, tick: 50ms -> 20ms, heartbeat: 100ms -> 40ms, election_timeout: 500ms -> 150ms"}},
		{"weight", []string{"server: s2}", "server: s2, weight: 3}"},
			[]string{"update clusters[main].services[m2]: weight: 10 -> 3"}},
		{"rename a durable", []string{"audit", "auditing"}, []string{
			"create " + store + ".durables[auditing]: standard, all messages, from now on",
			"delete " + store + `.durables[audit]: renaming a durable deletes its stored data: "auditing" starts empty (deletes stored messages)`,
			"update endpoints[flights]: default_durable: audit -> auditing, subscribers.billing: audit -> auditing",
		}},
		{"delete a durable", []string{"          - {name: delays, type: shared, matcher: '{\"delayed\":true}'}\n", ""}, []string{
			"delete " + store + ".durables[delays]: what it has not delivered is lost to its subscribers (deletes stored messages)",
		}},
		{"delete a store", []string{"      - {name: crews}\n", ""}, []string{
			"delete clusters[main].stores[crews]: its messages and durables go with it, also if another cluster gets a store of that name (deletes stored messages)",
		}},
		{"rename the cluster", []string{"name: main", "name: other"}, []string{
			"create clusters[other]: sync, services m1 on s1, m2 on s2, m3 on s3",
			"create clusters[other].stores[flights]: publisher_mode confirm",
			"create clusters[other].stores[flights].durables[audit]: standard, all messages, from now on",
			`create clusters[other].stores[flights].durables[delays]: shared, messages that match {"delayed":true}, from now on`,
			"create clusters[other].stores[flights].templates[by-airport]: standard",
			"create clusters[other].stores[crews]: publisher_mode confirm",
			"delete clusters[main]: its 2 stores go with it (deletes stored messages)",
			"delete " + store + ": its messages and durables go with it, also if another cluster gets a store of that name (deletes stored messages)",
			"delete " + store + ".durables[audit]: what it has not delivered is lost to its subscribers (deletes stored messages)",
			"delete " + store + ".durables[delays]: what it has not delivered is lost to its subscribers (deletes stored messages)",
			"delete " + store + ".templates[by-airport]: durables made from it stay",
			"delete clusters[main].stores[crews]: its messages and durables go with it, also if another cluster gets a store of that name (deletes stored messages)",
		}},
		{"endpoint", []string{"template: by-airport, default_durable: audit, subscribers: {billing: audit}", "subscribers: {worker: delays}"}, []string{
			"update endpoints[flights]: templates: by-airport -> none, default_durable: audit -> none, subscribers.worker: none -> delays, subscribers.billing: audit -> none",
		}},
		{"endpoint name", []string{"{name: flights, store", "{name: planes, store"}, []string{
			"create endpoints[planes]: store flights",
			"delete endpoints[flights]: clients no longer find it",
		}},
		{"prefetch", []string{"type: standard}", "type: standard, prefetch: 5}"}, []string{
			"update " + store + ".durables[audit]: prefetch: 1024 -> 5",
			"update " + store + ".templates[by-airport]: prefetch: 1024 -> 5",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, change := range realm.Diff(parse(t, before), parse(t, edit(t, before, c.edit...))) {
				got = append(got, change.String())
			}
			if g, w := strings.Join(got, "\n"), strings.Join(c.want, "\n"); g != w {
				t.Errorf("got\n%s\nwant\n%s", g, w)
			}
		})
	}
}

func TestDiffFromNothing(t *testing.T) {
	changes := realm.Diff(nil, parse(t, before))
	if len(changes) != 8 {
		t.Errorf("got %d changes, want the realm, a cluster, two stores, two durables, a template, an endpoint: %v", len(changes), changes)
	}
	for _, c := range changes {
		if c.Action != realm.Create || c.Destroys {
			t.Errorf("from nothing: %s", c)
		}
	}
}

func TestCheckChange(t *testing.T) {
	const later = "membership changes come with a later version; keep services and servers as they are, or make a new cluster"
	for _, c := range []struct {
		name string
		edit []string
		want []string
	}{
		{"nothing", nil, nil},
		{"allowed", []string{"byte_limit: 1GiB", "byte_limit: 2GiB", "server: s2}", "server: s2, weight: 1}", "      - {name: crews}\n", ""}, nil},
		{"services in another order", []string{"      - {name: m1, server: s1}\n", "", "m3, server: s3}\n", "m3, server: s3}\n      - {name: m1, server: s1}\n"}, nil},
		{"kind", []string{"{name: audit, type: standard}", "{name: audit, type: shared}"}, []string{
			`new.yaml:12:33: clusters[0].stores[0].durables[0].type: durable "audit" is standard and cannot become shared; define one under another name`}},
		{"matcher", []string{`{"delayed":true}`, `{"delayed":false}`}, []string{
			`new.yaml:13:51: clusters[0].stores[0].durables[1].matcher: durable "delays" keeps messages that match {"delayed":true}, which cannot change; define one under another name`}},
		{"matcher removed", []string{`, matcher: '{"delayed":true}'`, ""}, []string{
			`new.yaml:13:13: clusters[0].stores[0].durables[1].matcher: durable "delays" keeps messages that match {"delayed":true}, which cannot change; define one under another name`}},
		{"template kind", []string{"{name: by-airport, type: standard}", "{name: by-airport, type: shared}"}, []string{
			`new.yaml:15:38: clusters[0].stores[0].templates[0].type: template "by-airport" is standard and durables made from it cannot become shared; define one under another name`}},
		{"durability", []string{"name: main\n", "name: main\n    durability: memory\n"}, []string{
			`new.yaml:4:17: clusters[0].durability: cannot change from sync to memory, the replicas keep their logs in other ways; make a new cluster`}},
		{"move", []string{"server: s3", "server: s4"}, []string{
			`new.yaml:7:28: clusters[0].services[2].server: service "m3" cannot move from server "s3" to "s4"; ` + later}},
		{"shrink", []string{"      - {name: m2, server: s2}\n      - {name: m3, server: s3}\n", ""}, []string{
			`new.yaml:5:7: clusters[0].services: service "m2" is gone from cluster "main"; ` + later,
			`new.yaml:5:7: clusters[0].services: service "m3" is gone from cluster "main"; ` + later}},
		{"rename a service", []string{"name: m2", "name: m5"}, []string{
			`new.yaml:5:7: clusters[0].services: service "m2" is gone from cluster "main"; ` + later,
			`new.yaml:6:9: clusters[0].services[1]: service "m5" is new in cluster "main"; ` + later}},
	} {
		t.Run(c.name, func(t *testing.T) {
			problems := realm.CheckChange(parse(t, before), parse(t, edit(t, before, c.edit...)))
			var got []string
			for _, p := range problems {
				got = append(got, p.String())
			}
			if g, w := strings.Join(got, "\n"), strings.Join(c.want, "\n"); g != w {
				t.Errorf("got\n%s\nwant\n%s", g, w)
			}
		})
	}
	if problems := realm.CheckChange(nil, parse(t, before)); len(problems) > 0 {
		t.Errorf("from nothing: %v", problems)
	}
}
