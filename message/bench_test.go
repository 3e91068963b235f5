package message

import (
	"fmt"
	"testing"
)

// order is a message as applications send them: a few fields.
func order(i int) *Message {
	m := new(Message).SetString("type", "order").SetInt("part", int64(i%1000)).
		SetString("symbol", fmt.Sprintf("SYM%d", i%100)).SetFloat("price", 1.5).SetInt("quantity", int64(i))
	m.Body = make([]byte, 64)
	return m
}

func orders(t testing.TB, n int, opts Options) Batch {
	msgs := make([]*Message, n)
	for i := range msgs {
		msgs[i] = order(i)
	}
	return encode(t, opts, msgs...)
}

func opaques(t testing.TB, n, size int) Batch {
	msgs := make([]*Message, n)
	for i := range msgs {
		msgs[i] = &Message{Body: make([]byte, size)}
	}
	return encode(t, Options{}, msgs...)
}

// perMessage reports time per message instead of per batch.
func perMessage(b *testing.B, n int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/msg")
	b.ReportAllocs()
}

func BenchmarkBuildOpaque128(b *testing.B) {
	const n = 500
	m := &Message{Body: make([]byte, 128)}
	var builder Builder
	var dst []byte
	for b.Loop() {
		builder.Reset()
		for range n {
			if err := builder.Add(m); err != nil {
				b.Fatal(err)
			}
		}
		dst = builder.AppendTo(dst[:0], Options{})
	}
	perMessage(b, n)
}

// BenchmarkBuildLarge builds batches as publishers do, with AppendTo and with
// Finish.
func BenchmarkBuildLarge(b *testing.B) {
	const n = 4
	m := &Message{Body: make([]byte, 16<<10)}
	add := func(builder *Builder) {
		for range n {
			if err := builder.Add(m); err != nil {
				b.Fatal(err)
			}
		}
	}
	var builder Builder
	var memory []byte
	b.Run("AppendTo", func(b *testing.B) {
		for b.Loop() {
			builder.Reset()
			add(&builder)
			memory = builder.AppendTo(memory[:0], Options{})
		}
		perMessage(b, n)
	})
	b.Run("Finish", func(b *testing.B) {
		for b.Loop() {
			add(&builder)
			_, memory = builder.Finish(Options{}, memory)
		}
		perMessage(b, n)
	})
}

func BenchmarkBuildFields(b *testing.B) {
	const n = 500
	m := order(1)
	var builder Builder
	var dst []byte
	for b.Loop() {
		builder.Reset()
		for range n {
			if err := builder.Add(m); err != nil {
				b.Fatal(err)
			}
		}
		dst = builder.AppendTo(dst[:0], Options{})
	}
	perMessage(b, n)
}

func BenchmarkParse(b *testing.B) {
	const n = 500
	for name, batch := range map[string]Batch{"opaque128": opaques(b, n, 128), "fields": orders(b, n, Options{})} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(batch.Bytes())))
			for b.Loop() {
				if _, err := ParseBatch(batch.Bytes()); err != nil {
					b.Fatal(err)
				}
			}
			perMessage(b, n)
		})
	}
}

func BenchmarkValidate(b *testing.B) {
	const n = 500
	for name, batch := range map[string]Batch{"opaque128": opaques(b, n, 128), "fields": orders(b, n, Options{})} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := batch.Validate(0); err != nil {
					b.Fatal(err)
				}
			}
			perMessage(b, n)
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	const n = 500
	batch := orders(b, n, Options{})
	var m Message
	for b.Loop() {
		for i := range n {
			if err := batch.Decode(i, &m); err != nil {
				b.Fatal(err)
			}
		}
	}
	perMessage(b, n)
}

func BenchmarkMatcher(b *testing.B) {
	const n = 500
	batch := orders(b, n, Options{})
	for _, s := range []string{`{"part":7}`, `{"type":"order","symbol":"SYM5"}`, `{"none":false}`} {
		m := mustMatcher(b, s)
		b.Run(s, func(b *testing.B) {
			for b.Loop() {
				for i := range n {
					m.Match(batch, i)
				}
			}
			perMessage(b, n)
		})
	}
}

// BenchmarkSearch matches against durables that partition messages by one
// field: the time must hardly grow with their number.
func BenchmarkSearch(b *testing.B) {
	const n = 500
	batch := orders(b, n, Options{})
	for _, durables := range []int{1, 10, 100, 1000, 10000} {
		var x Index
		for k := range durables {
			x.Add(uint64(k), mustMatcher(b, fmt.Sprintf(`{"type":"order","part":%d}`, k)))
		}
		b.Run(fmt.Sprintf("durables=%d", durables), func(b *testing.B) {
			var s Search
			var dst []uint64
			for b.Loop() {
				s.Start(&x, batch)
				for i := range n {
					dst = s.Match(i, dst[:0])
				}
				s.End()
			}
			perMessage(b, n)
		})
	}
}

func BenchmarkAppendSelection(b *testing.B) {
	const n = 500
	var all, sel []int
	for i := range n {
		all = append(all, i)
		if i%2 == 0 {
			sel = append(sel, i)
		}
	}
	for name, batch := range map[string]Batch{"opaque128": opaques(b, n, 128), "fields": orders(b, n, Options{})} {
		for which, sel := range map[string][]int{"one": all[250:251], "half": sel, "neighbours": all[1:]} {
			b.Run(name+"/"+which, func(b *testing.B) {
				var dst []byte
				var err error
				for b.Loop() {
					if dst, err = AppendSelection(dst[:0], batch.Bytes(), sel); err != nil {
						b.Fatal(err)
					}
				}
				perMessage(b, len(sel))
			})
		}
	}
}

func BenchmarkCompress(b *testing.B) {
	const n = 500
	for _, how := range []Compression{CompressS2, CompressZstd} {
		b.Run(how.String(), func(b *testing.B) {
			var builder Builder
			for i := range n {
				if err := builder.Add(order(i)); err != nil {
					b.Fatal(err)
				}
			}
			var dst []byte
			for b.Loop() {
				dst = builder.AppendTo(dst[:0], Options{Head: how, Body: how})
			}
			b.SetBytes(int64(builder.Size()))
			b.ReportMetric(float64(builder.Size())/float64(len(dst)), "ratio")
			b.ReportAllocs()
		})
	}
}
