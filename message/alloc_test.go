//go:build !race

package message

import (
	"testing"
	"time"
)

// TestAllocations states what each verb allocates once buffers have grown.
// The race detector allocates too, so it is left out there.
func TestAllocations(t *testing.T) {
	const n = 50
	fields, bodies := orders(t, n, Options{}), opaques(t, n, 128)
	m := order(1)
	m.TTL, m.Key = time.Second, "key"
	m.SetHeader("h", "v")
	controlled := encode(t, Options{}, m, m)
	opaque := &Message{Body: make([]byte, 128)}
	matcher := mustMatcher(t, `{"type":"order","part":7,"x":false}`)
	var x Index
	for k := range uint64(100) {
		x.Add(k, matcher)
	}
	var b Builder
	var s Search
	var decoded Message
	dst := make([]byte, 0, 1<<20)
	keys := make([]uint64, 0, 200)
	sel, all := []int{0, 1, 5, 7, 8}, make([]int, n)
	for i := range all {
		all[i] = i
	}
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	build := func(m *Message, opts Options) func() {
		return func() {
			b.Reset()
			for range n {
				must(b.Add(m))
			}
			dst = b.AppendTo(dst[:0], opts)
		}
	}
	var memory []byte
	finish := func(m *Message, opts Options) func() {
		return func() {
			for range n {
				must(b.Add(m))
			}
			_, memory = b.Finish(opts, memory)
		}
	}
	cut := func(batch Batch) func() {
		return func() {
			var err error
			dst, err = AppendSelection(dst[:0], batch.Bytes(), all[1:batch.Count()])
			must(err)
			if batch.Count() > 8 {
				dst, err = AppendSelection(dst[:0], batch.Bytes(), sel)
				must(err)
			}
		}
	}
	tests := []struct {
		name string
		want float64
		f    func()
	}{
		{"build bodies", 0, build(opaque, Options{})},
		{"build fields", 0, build(m, Options{})},
		{"build with s2", 0, build(m, Options{Head: CompressS2, Body: CompressS2})},
		{"build with zstd", 0, build(m, Options{Head: CompressZstd, Body: CompressZstd})},
		{"finish bodies", 0, finish(opaque, Options{})},
		{"finish fields", 0, finish(m, Options{})},
		{"finish with s2", 0, finish(m, Options{Head: CompressS2, Body: CompressS2})},
		{"parse bodies", 0, func() { _, err := ParseBatch(bodies.Bytes()); must(err) }},
		{"parse fields", 0, func() { _, err := ParseBatch(fields.Bytes()); must(err) }},
		{"validate", 0, func() { must(fields.Validate(0)); must(controlled.Validate(0)) }},
		{"body", 0, func() { _, err := fields.Body(3); must(err) }},
		{"message that is a body", 0, func() { _, err := bodies.Message(3); must(err) }},
		{"message with fields", 1, func() { _, err := fields.Message(3); must(err) }},
		{"message with headers", 2, func() { _, err := controlled.Message(0); must(err) }},
		{"decode into a used message", 0, func() { must(controlled.Decode(0, &decoded)) }},
		{"control", 0, func() { controlled.Control(1) }},
		{"match", 0, func() { matcher.Match(fields, 7) }},
		{"search", 0, func() { s.Start(&x, fields); keys = s.Match(7, keys[:0]); s.End() }},
		{"cut bodies", 0, cut(bodies)},
		{"cut fields", 0, cut(fields)},
		{"cut control", 0, cut(controlled)},
	}
	for _, tc := range tests {
		for range 4 {
			tc.f()
		}
		if got := testing.AllocsPerRun(50, tc.f); got != tc.want {
			t.Errorf("%s: %v allocations, want %v", tc.name, got, tc.want)
		}
	}
	if len(keys) != 100 {
		t.Errorf("%d matches, want 100", len(keys))
	}
}
