package portable

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/perdure/perdure/message"
)

// random makes messages of every kind from a seed.
type random struct{ *rand.Rand }

func newRandom(seed uint64) random { return random{rand.New(rand.NewPCG(seed, 2))} }

func (r random) text() string {
	alphabet := []rune("ab ,;:\"'\\\r\n\t\x00\x7fä€😀\u2028\ufeff=_")
	s := make([]rune, r.IntN(12))
	for i := range s {
		s[i] = alphabet[r.IntN(len(alphabet))]
	}
	return string(s)
}

func (r random) bytes() []byte {
	b := make([]byte, r.IntN(12))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func (r random) float() float64 {
	return []float64{0, math.Copysign(0, -1), math.NaN(), math.Float64frombits(0x7ff8000000000055), math.Inf(1), math.Inf(-1), 1, 1e300, r.NormFloat64()}[r.IntN(9)]
}

func (r random) time() time.Time {
	if r.IntN(4) == 0 {
		return time.Unix(int64(r.Uint64()), r.Int64N(1e9))
	}
	return time.Unix(r.Int64N(1<<34), r.Int64N(1e9))
}

func (r random) name() string { return fmt.Sprintf("n%d,\"%s", r.IntN(9), r.text()) }

func several[T any](r random, one func() T) []T {
	s := make([]T, r.IntN(4))
	for i := range s {
		s[i] = one()
	}
	return s
}

func (r random) value(depth int) message.Value {
	nested := func() *message.Message { return r.fields(depth + 1) }
	kinds := []func() message.Value{
		func() message.Value { return message.String(r.text()) },
		func() message.Value { return message.Int(int64(r.Uint64())) },
		func() message.Value { return message.Float(r.float()) },
		func() message.Value { return message.Bool(r.IntN(2) == 0) },
		func() message.Value { return message.Bytes(r.bytes()) },
		func() message.Value { return message.Time(r.time()) },
		func() message.Value { return message.Strings(several(r, r.text)) },
		func() message.Value {
			return message.Ints(several(r, func() int64 { return int64(r.Uint64()) }))
		},
		func() message.Value { return message.Floats(several(r, r.float)) },
		func() message.Value {
			return message.Bools(several(r, func() bool { return r.IntN(2) == 0 }))
		},
		func() message.Value { return message.BytesArray(several(r, r.bytes)) },
		func() message.Value { return message.Times(several(r, r.time)) },
		func() message.Value { return message.Nested(nested()) },
		func() message.Value { return message.NestedArray(several(r, nested)) },
	}
	n := len(kinds)
	if depth > 3 {
		n -= 2
	}
	return kinds[r.IntN(n)]()
}

func (r random) fields(depth int) *message.Message {
	m := &message.Message{}
	for range r.IntN(5) {
		m.Set(r.name(), r.value(depth))
	}
	return m
}

// message makes a message with anything in it.
func (r random) message() *message.Message {
	m := r.fields(1)
	for range r.IntN(3) {
		m.SetHeader(r.name(), r.text())
	}
	m.Body = r.bytes()
	if r.IntN(2) == 0 {
		m.Body = []byte(r.text())
	}
	if r.IntN(3) == 0 {
		m.Key = r.text()
	}
	if r.IntN(3) == 0 {
		m.TTL = time.Duration(1 + r.Int64N(math.MaxInt64))
	}
	if r.IntN(3) == 0 {
		m.DeliverAt = time.Unix(0, r.Int64())
	}
	return m
}

func (r random) record() *Record {
	return &Record{
		Store: r.name(), Durables: several(r, r.name), ID: message.ID(r.Uint64()), Stamp: time.Unix(r.Int64N(1<<34), r.Int64N(1e9)),
		Count: r.Uint64(), Message: r.message(),
	}
}
