package message

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestRoundTrip(t *testing.T) {
	for seed := range uint64(300) {
		g := newGen(seed)
		opts := allOptions[g.IntN(len(allOptions))]
		b, msgs := g.batch(t, opts)
		sameMessages(t, b, msgs)
		checkHeader(t, b, msgs)
	}
}

// checkHeader compares the batch header with the messages it speaks of.
func checkHeader(t *testing.T, b Batch, msgs []*Message) {
	t.Helper()
	var deadline int64
	control, opaque := false, true
	for _, m := range msgs {
		if m.TTL > 0 && (deadline == 0 || int64(m.TTL) < deadline) {
			deadline = int64(m.TTL)
		}
		control = control || m.hasControl()
		opaque = opaque && m.opaque()
	}
	if b.EarliestDeadline() != deadline || b.HasControl() != control || b.Opaque() != opaque {
		t.Fatalf("header says deadline %d, control %v, opaque %v; want %d, %v, %v",
			b.EarliestDeadline(), b.HasControl(), b.Opaque(), deadline, control, opaque)
	}
	for i, m := range msgs {
		ttl, at, key := b.Control(i)
		wantAt := int64(0)
		if !m.DeliverAt.IsZero() {
			wantAt = m.DeliverAt.UnixNano()
		}
		if ttl != int64(m.TTL) || at != wantAt || string(key) != m.Key {
			t.Fatalf("control of message %d is %d, %d, %q", i, ttl, at, key)
		}
	}
	h := b.Header()
	if h.Sum() != b.Sum() || h.Count != b.Count() || h.Len() != len(b.Bytes()) || h.EarliestDeadline != deadline {
		t.Fatalf("header %+v does not agree with its batch", h)
	}
}

func TestBuilderSizeIsExact(t *testing.T) {
	g := newGen(7)
	var b Builder
	for range 500 {
		if err := b.Add(g.message()); err != nil {
			t.Fatal(err)
		}
		if got := len(b.AppendTo(nil, Options{})); got != b.Size() {
			t.Fatalf("Size %d, written %d bytes", b.Size(), got)
		}
	}
}

func TestBuilderIsDeterministicAndReusable(t *testing.T) {
	var used Builder
	for seed := range uint64(50) {
		g := newGen(seed)
		var fresh Builder
		used.Reset()
		for range 5 {
			m := g.message()
			if err := errors.Join(fresh.Add(m), used.Add(m)); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(fresh.AppendTo(nil, Options{}), used.AppendTo(nil, Options{})) {
			t.Fatalf("seed %d: a used builder writes other bytes than a fresh one", seed)
		}
	}
}

func TestAppendToKeepsWhatIsThere(t *testing.T) {
	for _, opts := range allOptions {
		var b Builder
		if err := b.AddBody(bytes.Repeat([]byte("body "), 200)); err != nil {
			t.Fatal(err)
		}
		alone := b.AppendTo(nil, opts)
		behind := b.AppendTo([]byte("before"), opts)
		if string(behind) != "before"+string(alone) {
			t.Fatalf("%+v: the batch depends on what is before it", opts)
		}
	}
	if got := new(Builder).AppendTo([]byte("x"), Options{}); string(got) != "x" {
		t.Fatalf("an empty builder appended %d bytes", len(got)-1)
	}
}

// bad are messages that can never be sent, with the reason and the member that
// the error must name.
func bad() map[string]struct {
	m      *Message
	want   error
	member string
} {
	deep := &Message{}
	for range MaxNesting {
		deep = new(Message).SetNested("in", deep)
	}
	deep.SetInt("x", 1)
	type row = struct {
		m      *Message
		want   error
		member string
	}
	msg := func() *Message { return &Message{} }
	return map[string]row{
		"empty name":        {msg().SetInt("", 1), ErrName, ""},
		"reserved name":     {msg().SetInt("_x", 1), ErrName, "_x"},
		"reserved header":   {msg().SetHeader("_x", ""), ErrName, "_x"},
		"long name":         {msg().SetInt(strings.Repeat("n", 257), 1), ErrName, "nnn"},
		"name not UTF-8":    {msg().SetInt("a\xff", 1), ErrUTF8, `a\xff`},
		"string not UTF-8":  {msg().SetString("text", "a\xff"), ErrUTF8, "text"},
		"strings not UTF-8": {msg().Set("list", Strings([]string{"", "\xff"})), ErrUTF8, `"list": element 1`},
		"header not UTF-8":  {msg().SetHeader("head", "\xff"), ErrUTF8, "head"},
		"key not UTF-8":     {&Message{Key: "\xff"}, ErrUTF8, "key"},
		"long key":          {&Message{Key: strings.Repeat("k", 257)}, ErrTooLarge, "key"},
		"field twice":       {&Message{Fields: []Field{{"a", Int(1)}, {"b", Int(1)}, {"a", Int(2)}}}, ErrDuplicate, `"a"`},
		"header twice":      {&Message{Headers: []Header{{"a", ""}, {"a", ""}}}, ErrDuplicate, `"a"`},
		"no value":          {msg().Set("none", Value{}), ErrValue, "none"},
		"negative TTL":      {&Message{TTL: -1}, ErrValue, "TTL"},
		"far deliver-at":    {&Message{DeliverAt: time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC)}, ErrValue, "deliver-at"},
		"nested body":       {msg().SetNested("in", &Message{Body: []byte("x")}), ErrValue, `"in"`},
		"nested header":     {msg().SetNested("in", msg().SetHeader("h", "")), ErrValue, `"in"`},
		"nested key":        {msg().Set("in", NestedArray([]*Message{nil, {Key: "k"}})), ErrValue, "element 1"},
		"nested name":       {msg().SetNested("in", msg().SetInt("_x", 1)), ErrName, `"in": field "_x"`},
		"too deep":          {deep, ErrTooLarge, "deep"},
		"too many elements": {msg().Set("list", Bools(make([]bool, MaxItems+1))), ErrTooLarge, "list"},
		"too many in all": {msg().Set("a", Bools(make([]bool, MaxItems/2))).Set("b", Bools(make([]bool, MaxItems/2))),
			ErrTooLarge, `"b"`},
		"large body":   {&Message{Body: make([]byte, MaxMessageSize+1)}, ErrTooLarge, ""},
		"large field":  {msg().SetBytes("blob", make([]byte, MaxMessageSize)), ErrTooLarge, "blob"},
		"large in all": {(&Message{Body: make([]byte, MaxMessageSize-10)}).SetString("text", "0123456789"), ErrTooLarge, "text"},
	}
}

func TestAddRefusesAndLeavesTheBuilderAsItWas(t *testing.T) {
	good := new(Message).SetInt("n", 1).SetHeader("h", "v")
	for name, tc := range bad() {
		for _, before := range []int{0, 1} {
			t.Run(fmt.Sprintf("%s after %d", name, before), func(t *testing.T) {
				var b, untouched Builder
				for range before {
					if err := errors.Join(b.Add(good), untouched.Add(good)); err != nil {
						t.Fatal(err)
					}
				}
				err := b.Add(tc.m)
				if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.member) {
					t.Fatalf("error %v, want %v that names %s", err, tc.want, tc.member)
				}
				if len(err.Error()) > 700 {
					t.Fatalf("the error has %d bytes", len(err.Error()))
				}
				if b.Len() != before || b.Size() != untouched.Size() {
					t.Fatalf("now %d messages and %d bytes, were %d and %d", b.Len(), b.Size(), before, untouched.Size())
				}
				after := new(Message).SetString("other", "x").SetInt("n", 2)
				if err := errors.Join(b.Add(after), untouched.Add(after)); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(b.AppendTo(nil, Options{}), untouched.AppendTo(nil, Options{})) {
					t.Fatal("the refused message left a trace")
				}
			})
		}
	}
}

func TestDeepestAndLargestAreAccepted(t *testing.T) {
	deepest := &Message{}
	for range MaxNesting - 1 {
		deepest = new(Message).SetNested("in", deepest)
	}
	full := new(Message).Set("list", Bools(make([]bool, MaxItems-1)))
	long := new(Message).SetInt(strings.Repeat("n", MaxNameLen), 1)
	long.Key = strings.Repeat("k", MaxNameLen)
	for _, m := range []*Message{deepest, full, long, {}, {Body: make([]byte, MaxMessageSize)}} {
		sameMessages(t, encode(t, Options{}, m), []*Message{m})
	}
	var b Builder
	b.SetMaxMessageSize(HardMaxMessageSize + 1)
	m := &Message{Body: make([]byte, HardMaxMessageSize)}
	if err := b.Add(m); err != nil {
		t.Fatal(err)
	}
	sameMessages(t, parse(t, b.AppendTo(nil, Options{})), []*Message{m})
	m.Body = append(m.Body, 0)
	b.Reset()
	if err := b.Add(m); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("a message over the hard limit: %v", err)
	}
}

func TestFullBatches(t *testing.T) {
	t.Run("messages", func(t *testing.T) {
		var b Builder
		for range MaxBatchMessages {
			if err := b.AddBody(nil); err != nil {
				t.Fatal(err)
			}
		}
		wantFull(t, &b, &Message{})
		wantFull(t, &b, new(Message).SetInt("a", 1))
		if got := parse(t, b.AppendTo(nil, Options{})); got.Count() != MaxBatchMessages {
			t.Fatalf("%d messages", got.Count())
		}
	})
	t.Run("bytes", func(t *testing.T) {
		var b Builder
		m := new(Message).SetInt("n", 1)
		m.Body = make([]byte, 1000)
		var err error
		for err == nil {
			err = b.Add(m)
		}
		if !errors.Is(err, ErrFull) || b.Size() > MaxBatchSize || b.Size() < MaxBatchSize-1100 {
			t.Fatalf("%v at %d bytes", err, b.Size())
		}
		parse(t, b.AppendTo(nil, Options{}))
	})
	t.Run("bodies first", func(t *testing.T) {
		// The first message with fields widens the directory of all before it.
		var b Builder
		var err error
		for err == nil {
			err = b.AddBody(make([]byte, 16))
		}
		wantFull(t, &b, new(Message).SetInt("n", 1))
		parse(t, b.AppendTo(nil, Options{}))
	})
	t.Run("names", func(t *testing.T) {
		var b Builder
		for i := 0; len(b.names) < MaxNames; i++ {
			if err := b.Add(new(Message).SetInt(fmt.Sprintf("name%d", i), 1)); err != nil {
				t.Fatal(err)
			}
		}
		wantFull(t, &b, new(Message).SetInt("new", 1))
		if err := b.Add(new(Message).SetInt("name17", 1)); err != nil {
			t.Fatal(err)
		}
		parse(t, b.AppendTo(nil, Options{}))
	})
	t.Run("a large message is alone", func(t *testing.T) {
		var b Builder
		large := &Message{Body: make([]byte, MaxBatchSize)}
		if err := b.Add(large); err != nil {
			t.Fatal(err)
		}
		wantFull(t, &b, &Message{})
		wantFull(t, &b, new(Message).SetInt("n", 1))
		sameMessages(t, parse(t, b.AppendTo(nil, Options{})), []*Message{large})
	})
	t.Run("too many names in one", func(t *testing.T) {
		m := &Message{}
		for i := range MaxNames + 1 {
			m.Fields = append(m.Fields, Field{fmt.Sprintf("n%d", i), Int(1)})
		}
		if err := new(Builder).Add(m); !errors.Is(err, ErrTooLarge) {
			t.Fatalf("error %v, want ErrTooLarge", err)
		}
	})
}

func wantFull(t *testing.T, b *Builder, m *Message) {
	t.Helper()
	n, size := b.Len(), b.Size()
	if err := b.Add(m); !errors.Is(err, ErrFull) {
		t.Fatalf("error %v, want ErrFull", err)
	}
	if b.Len() != n || b.Size() != size {
		t.Fatal("the refused message left a trace")
	}
}

func TestOverheadOfAnOpaqueMessage(t *testing.T) {
	var b Builder
	for range 100 {
		if err := b.Add(&Message{Body: make([]byte, 128)}); err != nil {
			t.Fatal(err)
		}
	}
	if got := b.Size(); got != HeaderSize+100*(4+128) {
		t.Fatalf("%d bytes for 100 messages of 128", got)
	}
}
