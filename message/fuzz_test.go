package message

import (
	"bytes"
	"errors"
	"runtime"
	"slices"
	"testing"
)

// seeds are batches of every shape for the fuzzers to start from.
func seeds(f *testing.F) [][]byte {
	var out [][]byte
	for seed := range uint64(20) {
		g := newGen(seed)
		for _, opts := range allOptions[:3] {
			b, _ := g.batch(f, opts)
			out = append(out, b.Bytes())
		}
	}
	for name, msgs := range goldenBatches() {
		out = append(out, encode(f, goldenOptions(name), msgs...).Bytes())
	}
	return out
}

// FuzzParseBatch parses and uses arbitrary bytes, as they are and with right
// checksums. What a batch says is also read back from a batch built of it.
func FuzzParseBatch(f *testing.F) {
	for _, raw := range seeds(f) {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		before := bytes.Clone(raw)
		if _, err := ParseBatch(raw); err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) && !errors.Is(err, ErrTooLarge) {
			t.Fatalf("untyped error %v", err)
		}
		if !bytes.Equal(raw, before) {
			t.Fatal("ParseBatch changed its input")
		}
		b, err := ParseBatch(reseal(raw))
		if err != nil {
			return
		}
		use(t, b)
		if b.Validate(0) == nil {
			rebuild(t, b)
		}
	})
}

// rebuild decodes all messages and packs them again.
func rebuild(t *testing.T, b Batch) {
	var re Builder
	re.SetMaxMessageSize(HardMaxMessageSize)
	var msgs []*Message
	for i := range b.Count() {
		m, err := b.Message(i)
		if err != nil {
			t.Fatal(err)
		}
		if err := re.Add(&m); err != nil {
			t.Fatalf("message %d was decoded and cannot be sent: %v", i, err)
		}
		msgs = append(msgs, &m)
	}
	again := parse(t, re.AppendTo(nil, Options{}))
	sameMessages(t, again, msgs)
	if again.EarliestDeadline() != b.EarliestDeadline() || again.HasControl() != b.HasControl() {
		t.Fatal("the header tells something else than the messages")
	}
}

// FuzzDecompress feeds arbitrary bytes to the decompressors, with a bound on
// what they may allocate.
func FuzzDecompress(f *testing.F) {
	text := bytes.Repeat([]byte("some text "), 100)
	for _, how := range []Compression{CompressS2, CompressZstd} {
		out, _ := appendCompressed(nil, text, how)
		f.Add(out, uint8(how), uint32(len(text)))
		f.Add(out, uint8(how), uint32(MaxBatchSize))
	}
	zstdDecoder()
	f.Fuzz(func(t *testing.T, src []byte, how uint8, rawLen uint32) {
		c := Compression(how % (uint8(maxCompression) + 1))
		n := int(rawLen % MaxBatchSize)
		if !consistent(c, len(src), n) {
			return // ParseHeader refuses it
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		out, err := decompress(src, c, n)
		runtime.ReadMemStats(&after)
		if err == nil && len(out) != n {
			t.Fatalf("%d bytes, %d were announced", len(out), n)
		}
		// What a decoder keeps for reuse is counted too, hence the constant.
		if got := after.TotalAlloc - before.TotalAlloc; got > uint64(2*n+8<<20) {
			t.Fatalf("%d bytes were allocated for %d", got, n)
		}
	})
}

// FuzzCut compares cuts of built batches with the messages they were built
// from.
func FuzzCut(f *testing.F) {
	f.Add(uint64(1), uint64(5))
	f.Fuzz(func(t *testing.T, seed, mask uint64) {
		g := newGen(seed)
		b, msgs := g.batch(t, allOptions[seed%uint64(len(allOptions))])
		var sel []int
		var want []*Message
		for i := range msgs {
			if mask>>i&1 != 0 {
				sel, want = append(sel, i), append(want, msgs[i])
			}
		}
		cut, err := AppendSelection([]byte("x"), b.Bytes(), sel)
		if len(sel) == 0 {
			if !errors.Is(err, ErrRange) {
				t.Fatal(err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		checkCut(t, b, cut, want)
	})
}

// FuzzParseMatcher: what parses is canonical, reads back, and the index agrees
// with it.
func FuzzParseMatcher(f *testing.F) {
	for _, s := range []string{
		``, `{}`, `{"a":1}`, `{"a":"x","b":true,"c":false}`, `{"a":-9223372036854775808}`, `{"\u00e4":"\ud83d\ude00"}`,
		`[{"a":false}]`, `{"a":1.5}`, `{"a":{"b":1}}`, ` { "n1" : "0" , "n2" : 2 } `,
	} {
		f.Add(s, uint64(0))
	}
	f.Fuzz(func(t *testing.T, s string, seed uint64) {
		m, err := ParseMatcher(s)
		if err != nil {
			var syntax *SyntaxError
			if !errors.As(err, &syntax) || !errors.Is(err, ErrMatcher) || syntax.Offset < 0 || syntax.Offset > len(s) {
				t.Fatalf("error %v", err)
			}
			return
		}
		again := mustMatcher(t, m.String())
		if !again.Equal(m) || again.String() != m.String() {
			t.Fatalf("%q becomes %s, then %s", s, m, again)
		}
		var x Index
		x.Add(7, m)
		g := newGen(seed)
		b := encode(t, Options{}, g.flat(), g.message(), &Message{})
		for i := range b.Count() {
			if got := matching(&x, b, i); slices.Equal(got, []uint64{7}) != m.Match(b, i) {
				t.Fatalf("the index says %v, the matcher %v", got, m.Match(b, i))
			}
		}
	})
}

// FuzzParseID: an id has one spelling.
func FuzzParseID(f *testing.F) {
	for _, s := range []string{"0", "17", "2:17", "65535:281474976710655", "01", ":", "1:2:3", "-1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseID(s)
		if err != nil {
			if !errors.Is(err, ErrID) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if id.String() != s {
			t.Fatalf("%q becomes %s", s, id)
		}
	})
}

// FuzzFromJSON: what becomes a message can be sent, and prints as JSON that
// becomes the same.
func FuzzFromJSON(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"a":1,"b":[1,2.5],"c":{"d":[{"e":"f"},{}]},"g":null,"h":[],"i":true}`, `{"a":[1,"x"]}`, `{"a":1e400}`,
		`{"a":-0,"b":-0.0,"c":1E+2}`, `{"\ud83d\ude00":"\u0000"}`, `{"a":9223372036854775808}`,
	} {
		f.Add([]byte(s))
	}
	for seed := range uint64(10) {
		f.Add(newGen(seed).message().AppendJSON(nil))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		m, err := FromJSON(line)
		if err != nil {
			var syntax *SyntaxError
			if !errors.As(err, &syntax) || !errors.Is(err, ErrJSON) || syntax.Offset < 0 || syntax.Offset > len(line) {
				t.Fatalf("error %v", err)
			}
			return
		}
		var b Builder
		if err := b.Add(m); err != nil && !errors.Is(err, ErrTooLarge) {
			t.Fatalf("it cannot be sent: %v", err)
		}
		again, err := FromJSON(m.AppendJSON(nil))
		if err != nil {
			t.Fatalf("%s does not read back: %v", m.AppendJSON(nil), err)
		}
		if !again.Equal(m) {
			t.Fatalf("%s reads back as %s", m.AppendJSON(nil), again.AppendJSON(nil))
		}
	})
}

// FuzzValidName: a name that is accepted can be sent and comes back.
func FuzzValidName(f *testing.F) {
	for _, s := range []string{"", "_", "a", "Größe", "\xff", "a\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		m := new(Message).SetInt(name, 1).SetHeader(name, "")
		err := new(Builder).Add(m)
		if (ValidName(name) == nil) != (err == nil) {
			t.Fatalf("ValidName %v, Add %v", ValidName(name), err)
		}
		if err == nil {
			sameMessages(t, encode(t, Options{}, m), []*Message{m})
		}
	})
}
