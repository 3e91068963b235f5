package message

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// gen makes random messages from a seed.
type gen struct {
	*rand.Rand
	finite bool // no NaN and infinities, which JSON does not have
}

func newGen(seed uint64) gen { return gen{Rand: rand.New(rand.NewPCG(seed, 1))} }

func (g gen) text(limit int) string {
	alphabet := []rune("abcxyz 0189\"\\\n\x00äß€😀")
	s := make([]rune, g.IntN(limit+1))
	for i := range s {
		s[i] = alphabet[g.IntN(len(alphabet))]
	}
	return string(s)
}

func (g gen) bytes(limit int) []byte {
	b := make([]byte, g.IntN(limit+1))
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	return b
}

func (g gen) name() string { return fmt.Sprintf("n%d", g.IntN(12)) }

func (g gen) time() time.Time {
	return time.Unix(g.Int64N(1<<33)-1<<32, g.Int64N(1e9)).UTC()
}

// message makes a message with anything in it; some are only a body.
func (g gen) message() *Message {
	m := &Message{Body: g.bytes(40)}
	if g.IntN(4) == 0 {
		return m
	}
	g.fields(m, 1)
	for range g.IntN(3) {
		m.SetHeader(g.name(), g.text(20))
	}
	if g.IntN(3) == 0 {
		m.TTL = time.Duration(1 + g.Int64N(1e12))
	}
	if g.IntN(4) == 0 {
		m.DeliverAt = g.time()
	}
	if g.IntN(3) == 0 {
		m.Key = "k" + g.text(10)
	}
	return m
}

func (g gen) fields(m *Message, depth int) {
	for range g.IntN(6) {
		m.Set(g.name(), g.value(depth))
	}
}

func (g gen) value(depth int) Value {
	kinds := []Kind{
		KindString, KindInt64, KindFloat64, KindBool, KindBytes, KindTime, KindMessage,
		KindStrings, KindInt64s, KindFloat64s, KindBools, KindBytesArray, KindTimes, KindMessageArray,
	}
	k := kinds[g.IntN(len(kinds))]
	if depth > 3 && k&^KindArray == KindMessage {
		k = KindInt64
	}
	switch k {
	case KindString:
		return String(g.text(300))
	case KindInt64:
		return Int(int64(g.Uint64()))
	case KindFloat64:
		return Float(g.float())
	case KindBool:
		return Bool(g.IntN(2) == 0)
	case KindBytes:
		return Bytes(g.bytes(30))
	case KindTime:
		return Time(g.time())
	case KindMessage:
		return Nested(g.nested(depth + 1))
	case KindStrings:
		return Strings(many(g, func() string { return g.text(5) }))
	case KindInt64s:
		return Ints(many(g, func() int64 { return int64(g.Uint64()) }))
	case KindFloat64s:
		return Floats(many(g, g.float))
	case KindBools:
		return Bools(many(g, func() bool { return g.IntN(2) == 0 }))
	case KindBytesArray:
		return BytesArray(many(g, func() []byte { return g.bytes(5) }))
	case KindTimes:
		return Times(many(g, g.time))
	default:
		return NestedArray(many(g, func() *Message { return g.nested(depth + 1) }))
	}
}

func (g gen) float() float64 {
	special := []float64{0, math.Copysign(0, -1), math.Inf(1), math.NaN(), 1, -2.5, 1e300}
	if i := g.IntN(2 * len(special)); i < len(special) && !g.finite {
		return special[i]
	}
	return g.NormFloat64()
}

func (g gen) nested(depth int) *Message {
	m := &Message{}
	g.fields(m, depth)
	return m
}

func many[T any](g gen, one func() T) []T {
	s := make([]T, g.IntN(5))
	for i := range s {
		s[i] = one()
	}
	return s
}

// batch makes a batch of random messages and returns both.
func (g gen) batch(t testing.TB, opts Options) (Batch, []*Message) {
	t.Helper()
	msgs := make([]*Message, 1+g.IntN(12))
	onlyBodies := g.IntN(4) == 0
	for i := range msgs {
		msgs[i] = g.message()
		if onlyBodies {
			msgs[i] = &Message{Body: msgs[i].Body}
		}
	}
	return encode(t, opts, msgs...), msgs
}

// encode packs messages into a batch and parses it.
func encode(t testing.TB, opts Options, msgs ...*Message) Batch {
	t.Helper()
	var b Builder
	for i, m := range msgs {
		if err := b.Add(m); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	return parse(t, b.AppendTo(nil, opts))
}

func parse(t testing.TB, raw []byte) Batch {
	t.Helper()
	batch, err := ParseBatch(raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := batch.Validate(0); err != nil {
		t.Fatal(err)
	}
	return batch
}

// sameMessages compares what a batch holds with what it should.
func sameMessages(t testing.TB, b Batch, want []*Message) {
	t.Helper()
	if b.Count() != len(want) {
		t.Fatalf("%d messages, want %d", b.Count(), len(want))
	}
	for i := range want {
		got, err := b.Message(i)
		if err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		if !got.Equal(want[i]) {
			t.Fatalf("message %d is\n%+v, want\n%+v", i, got, *want[i])
		}
	}
}

var allOptions = []Options{
	{},
	{Head: CompressS2, Body: CompressS2},
	{Head: CompressZstd, Body: CompressZstd},
	{Body: CompressS2},
	{Head: CompressZstd},
}
