package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/realm"
)

// defaultRealm is what `perdure dev` gives a new cluster: one store, reached
// through an endpoint of the same name, with durables made as they are asked for.
func defaultRealm(nodes []*node) string {
	var b strings.Builder
	b.WriteString("realm: dev\nclusters:\n  - name: main\n    services:\n")
	for i, n := range nodes {
		fmt.Fprintf(&b, "      - {name: main-%d, server: %s}\n", i+1, n.name)
	}
	fmt.Fprintf(&b, "    stores:\n      - name: default\n"+
		"endpoints:\n  - {name: default, store: default, templates: [%s, %s]}\n", realm.BuiltinStandard, realm.BuiltinShared)
	return b.String()
}

// establish gives the cluster its realm: the definition that was given, else
// the default one if there is none yet.
func (d *dev) establish(ctx context.Context, given *realmFile) error {
	c, err := client.Connect(ctx, d.fleet.connect(), client.WithName("perdure dev"))
	if err != nil {
		return err
	}
	defer closeClient(c)
	var options []client.ApplyOption
	if given == nil {
		given = &realmFile{name: "the default realm", data: []byte(defaultRealm(d.fleet.nodes))}
		options = append(options, client.IfRevision(0))
	}
	plan, err := c.Admin().ApplyRealm(ctx, given.data, given.name, options...)
	if len(options) > 0 && errors.Is(err, client.ErrRevisionConflict) {
		return nil // there is one already, from a dev before
	}
	if err != nil {
		return fmt.Errorf("apply %s: %w", given.name, err)
	}
	for _, w := range plan.Warnings {
		fmt.Fprintln(d.p.stderr, problemLine(given.name, w))
	}
	return nil
}
