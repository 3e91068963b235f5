package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/internal/fleet"
	"github.com/perdure/perdure/realm"
)

// defaultRealm is what `perdure dev` gives a new cluster: one store, reached
// through an endpoint of the same name, with durables made as they are asked for.
func defaultRealm(nodes []*fleet.Node) string {
	var b strings.Builder
	b.WriteString("realm: dev\nclusters:\n  - name: main\n    services:\n")
	for i, n := range nodes {
		fmt.Fprintf(&b, "      - {name: main-%d, server: %s}\n", i+1, n.Name)
	}
	fmt.Fprintf(&b, "    stores:\n      - name: default\n"+
		"endpoints:\n  - {name: default, store: default, templates: [%s, %s]}\n", realm.BuiltinStandard, realm.BuiltinShared)
	return b.String()
}

// establish gives the cluster its realm: the definition that was given, else
// the default one if there is none yet. It returns what the realm is then.
func (d *dev) establish(ctx context.Context, given *realmFile) (*realm.Realm, error) {
	c, err := client.Connect(ctx, d.fleet.Connect(), client.WithName("perdure dev"))
	if err != nil {
		return nil, err
	}
	defer closeClient(c)
	if given == nil {
		_, err := c.Admin().ApplyRealm(ctx, []byte(defaultRealm(d.fleet.Nodes)), "the default realm", client.IfRevision(0))
		// After a conflict there is one already, from a dev before.
		if err != nil && !errors.Is(err, client.ErrRevisionConflict) {
			return nil, fmt.Errorf("apply the default realm: %w", err)
		}
		return currentRealm(ctx, c, 0)
	}
	done, err := application{allow: d.allowDelete}.apply(ctx, c, given)
	var deletes *wouldDelete
	if errors.As(err, &deletes) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("apply %s: %w", given.name, err)
	}
	for _, w := range done.plan.Warnings {
		fmt.Fprintln(d.p.stderr, problemLine(given.name, w))
	}
	return given.parsed, nil
}

// hints returns commands to paste, which work with the realm as it is.
func hints(r *realm.Realm, connect, dir string) string {
	if connect != defaultConnect {
		connect = " --connect " + connect
	} else {
		connect = ""
	}
	var b strings.Builder
	if len(r.Endpoints) == 0 {
		b.WriteString("The cluster is ready. Its realm has no endpoint, so nobody can publish or subscribe yet; apply one with\nperdure realm apply FILE. In another terminal:\n\n")
	} else {
		b.WriteString("The cluster is ready. In another terminal:\n\n")
		e := &r.Endpoints[0]
		name := word(e.Name)
		if durable, ok := anyDurable(r, e); ok {
			fmt.Fprintf(&b, "  perdure sub %s%s%s\n", name, durable, connect)
		}
		fmt.Fprintf(&b, "  perdure pub %s hi%s\n", name, connect)
	}
	fmt.Fprintf(&b, "  perdure status%s\n", connect)
	which := ""
	if len(r.Clusters) > 1 {
		which = " --cluster " + word(r.Clusters[0].Name)
	}
	fmt.Fprintf(&b, "  perdure dev kill leader%s --data %s\n", which, word(dir))
	return b.String()
}

// anyDurable returns the flag with which an endpoint gives a durable, "" for its
// default; not ok if it gives none.
func anyDurable(r *realm.Realm, e *realm.Endpoint) (flag string, ok bool) {
	if e.DefaultDurable != "" {
		return "", true
	}
	if len(e.Templates) > 0 {
		return " --durable d", true
	}
	for i := range r.Clusters {
		if s := r.Clusters[i].Store(e.Store); s != nil && len(s.Durables) > 0 {
			return " --durable " + word(s.Durables[0].Name), true
		}
	}
	return "", false
}

// word quotes what a shell would not take as one word.
func word(text string) string {
	if text == "" {
		return "''"
	}
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:,+@%=", r)
	}
	for _, r := range text {
		if !plain(r) {
			if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				return "$" + "'" + strings.ReplaceAll(strings.Trim(strconv.Quote(text), `"`), "'", `\'`) + "'"
			}
			return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
		}
	}
	return text
}
