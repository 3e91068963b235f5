package message

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"strings"
	"testing"
	"time"
)

func TestEveryFlippedBitIsFound(t *testing.T) {
	m := new(Message).SetString("text", strings.Repeat("long enough to compress ", 20)).SetHeader("h", "v")
	m.Body = bytes.Repeat([]byte("body"), 100)
	m.TTL = time.Hour
	for _, opts := range allOptions {
		raw := encode(t, opts, m, &Message{Body: []byte("x")}).Bytes()
		for i := range raw {
			for bit := range 8 {
				raw[i] ^= 1 << bit
				if _, err := ParseBatch(raw); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
					t.Fatalf("%+v: bit %d of byte %d flipped: error %v", opts, bit, i, err)
				}
				raw[i] ^= 1 << bit
			}
		}
	}
}

func TestEveryTruncationIsFound(t *testing.T) {
	g := newGen(3)
	b, _ := g.batch(t, Options{})
	raw := b.Bytes()
	for n := range raw {
		if _, err := ParseBatch(raw[:n]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("the first %d of %d bytes: error %v", n, len(raw), err)
		}
	}
	if _, err := ParseBatch(append(bytes.Clone(raw), 0)); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("one byte too many: error %v", err)
	}
}

// reseal makes the checksums of an uncompressed batch right again, as somebody
// with bad intentions would.
func reseal(raw []byte) []byte {
	if len(raw) < HeaderSize {
		return raw
	}
	le := binary.LittleEndian
	head := int(le.Uint32(raw[8:]))
	if head <= len(raw)-HeaderSize {
		le.PutUint32(raw[24:], crc32.Checksum(raw[HeaderSize:HeaderSize+head], castagnoli))
		le.PutUint32(raw[28:], crc32.Checksum(raw[HeaderSize+head:], castagnoli))
	}
	le.PutUint32(raw[40:], crc32.Checksum(raw[:40], castagnoli))
	return raw
}

// use calls everything that may be called on a parsed batch. What fails must
// fail with an error; what Validate accepted must not fail.
func use(t testing.TB, b Batch) {
	t.Helper()
	valid := b.Validate(0) == nil
	must := func(err error) {
		t.Helper()
		if valid && err != nil {
			t.Fatalf("Validate accepted it, but: %v", err)
		}
	}
	m, err := ParseMatcher(`{"n1":true,"n2":false,"n3":"x","n4":4}`)
	if err != nil {
		t.Fatal(err)
	}
	var x Index
	x.Add(1, m)
	x.Add(2, nil)
	x.Add(3, mustMatcher(t, `{"n1":1}`))
	var search Search
	search.Start(&x, b)
	var re Builder
	re.SetMaxMessageSize(HardMaxMessageSize)
	for i := range b.Count() {
		for f := b.Fields(i); f.Next(); {
			_ = f.Name()
		}
		b.Control(i)
		m.Match(b, i)
		search.Match(i, nil)
		got, err := b.Message(i)
		must(err)
		if err == nil {
			got.AppendJSON(nil)
			if valid {
				re.Reset()
				must(re.Add(&got))
			}
		}
		cut, err := AppendSelection(nil, b.Bytes(), []int{i})
		must(err)
		if err == nil {
			if _, err := ParseBatch(cut); err != nil {
				t.Fatalf("what AppendSelection wrote: %v", err)
			}
		}
	}
	if b.Header().Sum() != b.Sum() {
		t.Fatal("header and batch differ in their sum")
	}
}

// TestDamagedWithRightChecksums flips bits and repairs the checksums: nothing
// may panic, whatever the structure says.
func TestDamagedWithRightChecksums(t *testing.T) {
	for seed := range uint64(20) {
		g := newGen(seed)
		b, _ := g.batch(t, Options{})
		raw := b.Bytes()
		refused := 0
		for range 100 {
			damaged := bytes.Clone(raw)
			for range 1 + g.IntN(3) {
				damaged[g.IntN(len(damaged))] ^= 1 << g.IntN(8)
			}
			parsed, err := ParseBatch(reseal(damaged))
			if err != nil {
				refused++
				continue
			}
			use(t, parsed)
		}
		if refused == 0 {
			t.Fatalf("seed %d: every damaged batch was accepted", seed)
		}
	}
}

func TestParseHeaderRefuses(t *testing.T) {
	var b Builder
	for range 3 {
		if err := b.Add(new(Message).SetInt("n", 1)); err != nil {
			t.Fatal(err)
		}
	}
	good := b.AppendTo(nil, Options{})
	put := func(at int, v uint32) func([]byte) {
		return func(raw []byte) { binary.LittleEndian.PutUint32(raw[at:], v) }
	}
	tests := map[string]struct {
		change func(raw []byte)
		want   error
	}{
		"version":                  {func(raw []byte) { raw[0] = 2 }, ErrVersion},
		"unknown flag":             {func(raw []byte) { raw[1] |= 4 }, ErrVersion},
		"control without parts":    {func(raw []byte) { raw[1] = byte(FlagControl) }, ErrCorrupt},
		"head compression":         {func(raw []byte) { raw[2] = 3 }, ErrVersion},
		"body compression":         {func(raw []byte) { raw[3] = 3 }, ErrVersion},
		"no messages":              {put(4, 0), ErrCorrupt},
		"too many messages":        {put(4, MaxBatchMessages+1), ErrCorrupt},
		"no room for directory":    {put(4, 1000), ErrCorrupt},
		"stored is not raw":        {put(8, 5), ErrCorrupt},
		"compressed is not less":   {func(raw []byte) { raw[2] = 1 }, ErrCorrupt},
		"huge head":                {put(12, 1<<32-1), ErrTooLarge},
		"huge body":                {put(20, 1<<32-1), ErrTooLarge},
		"body over the batch size": {put(20, MaxBatchSize), ErrTooLarge},
		"deadline without control": {put(32, 7), ErrCorrupt},
		"negative deadline":        {func(raw []byte) { raw[1] |= byte(FlagControl); raw[39] = 0x80 }, ErrCorrupt},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			raw := bytes.Clone(good)
			tc.change(raw)
			binary.LittleEndian.PutUint32(raw[40:], crc32.Checksum(raw[:40], castagnoli))
			if _, err := ParseHeader(raw); !errors.Is(err, tc.want) {
				t.Fatalf("error %v, want %v", err, tc.want)
			}
		})
	}
	if h, err := ParseHeader(good[:HeaderSize]); err != nil || h.Len() != len(good) {
		t.Fatalf("the header alone: %+v, %v", h, err)
	}
}

func TestValidateFindsLies(t *testing.T) {
	m := new(Message).SetBool("b", true).SetTime("t", time.Unix(1, 2))
	m.TTL = 5
	good := encode(t, Options{}, m).Bytes()
	partAt := bytes.Index(good, []byte{hasTTL | hasFields, 5, 0, 0, 0, 0, 0, 0, 0, 2})
	if partAt < 0 {
		t.Fatal("the part is not where the test looks for it")
	}
	tests := map[string]struct {
		change func(raw []byte)
		want   error
	}{
		"deadline":             {func(raw []byte) { raw[32] = 4 }, ErrCorrupt},
		"unknown contents":     {func(raw []byte) { raw[partAt] |= 0x20 }, ErrCorrupt},
		"no contents":          {func(raw []byte) { raw[partAt] = 0 }, ErrCorrupt},
		"TTL is zero":          {func(raw []byte) { raw[partAt+1] = 0 }, ErrValue},
		"more fields":          {func(raw []byte) { raw[partAt+9] = 3 }, ErrCorrupt},
		"fewer fields":         {func(raw []byte) { raw[partAt+9] = 1 }, ErrCorrupt},
		"unknown name":         {func(raw []byte) { raw[partAt+10] = 9 }, ErrCorrupt},
		"name twice":           {func(raw []byte) { raw[partAt+10] = 1 }, ErrDuplicate},
		"unknown kind":         {func(raw []byte) { raw[partAt+11] = 0x18 }, ErrCorrupt},
		"kind of other size":   {func(raw []byte) { raw[partAt+11] = byte(KindInt64) }, ErrCorrupt},
		"bool is 2":            {func(raw []byte) { raw[partAt+13] = 2 }, ErrCorrupt},
		"too many nanoseconds": {func(raw []byte) { raw[partAt+28] = 0xff }, ErrCorrupt},
		"reserved name":        {func(raw []byte) { raw[partAt-2] = '_' }, ErrName},
		"name not UTF-8":       {func(raw []byte) { raw[partAt-2] = 0xff }, ErrUTF8},
		"names equal":          {func(raw []byte) { raw[partAt-2] = raw[partAt-1] }, ErrDuplicate},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			raw := bytes.Clone(good)
			tc.change(raw)
			b, err := ParseBatch(reseal(raw))
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Validate(0); !errors.Is(err, tc.want) {
				t.Fatalf("error %v, want %v", err, tc.want)
			}
			use(t, b)
		})
	}
}

func TestValidateLimitsEachMessage(t *testing.T) {
	small, large := &Message{Body: make([]byte, 10)}, &Message{Body: make([]byte, 90)}
	large.SetString("s", "0123456789")
	b := encode(t, Options{}, small, large, small)
	part := len(b.part(1))
	if err := b.Validate(90 + part); err != nil {
		t.Fatal(err)
	}
	if err := b.Validate(90 + part - 1); !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "message 1 ") {
		t.Fatalf("error %v, want ErrTooLarge that names message 1", err)
	}
}

func TestManyNamesAreCheckedForDuplicates(t *testing.T) {
	m := &Message{}
	for i := range 60 {
		m.SetInt("name"+string(rune('A'+i)), 1)
	}
	raw := encode(t, Options{}, m).Bytes()
	at := bytes.Index(raw, []byte("nameB"))
	raw[at+4] = 'A'
	b, err := ParseBatch(reseal(raw))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Validate(0); !errors.Is(err, ErrDuplicate) {
		t.Fatalf("error %v, want ErrDuplicate", err)
	}
}

func TestPositionsOutsideABatch(t *testing.T) {
	b := encode(t, Options{}, &Message{}, &Message{})
	for _, i := range []int{-1, 2, 1 << 40} {
		if _, err := b.Message(i); !errors.Is(err, ErrRange) {
			t.Errorf("message %d: error %v", i, err)
		}
		if _, err := b.Body(i); !errors.Is(err, ErrRange) {
			t.Errorf("body %d: error %v", i, err)
		}
	}
	var zero Batch
	if zero.Count() != 0 || zero.Sum() != 0 || zero.EarliestDeadline() != 0 || zero.HasControl() || zero.Header() != (BatchHeader{}) {
		t.Error("the zero Batch is not empty")
	}
	if zero.Validate(0) == nil {
		t.Error("the zero Batch is valid")
	}
}

func TestDecodeReusesItsMessage(t *testing.T) {
	g := newGen(11)
	b, msgs := g.batch(t, Options{})
	var m Message
	for range 3 {
		for i := range msgs {
			if err := b.Decode(i, &m); err != nil {
				t.Fatal(err)
			}
			if !m.Equal(msgs[i]) {
				t.Fatalf("message %d is %+v, want %+v", i, m, *msgs[i])
			}
		}
	}
}

func TestBodiesDoNotGrowIntoEachOther(t *testing.T) {
	b := encode(t, Options{}, &Message{Body: []byte("one")}, &Message{Body: []byte("two")})
	first, err := b.Body(0)
	if err != nil {
		t.Fatal(err)
	}
	_ = append(first, "X"...)
	second, err := b.Body(1)
	if err != nil || string(second) != "two" {
		t.Fatalf("the second body is %q, %v", second, err)
	}
}

func TestFieldReaderIsTheTopLevel(t *testing.T) {
	in := new(Message).SetInt("inner", 1)
	m := new(Message).SetString("s", "text").SetNested("in", in).SetInt("n", -7)
	m.TTL, m.DeliverAt, m.Key = 1, time.Unix(9, 9), "key"
	b := encode(t, Options{}, &Message{}, m)
	var names []string
	f := b.Fields(1)
	for f.Next() {
		names = append(names, f.Name())
		if f.Name() != b.Name(f.Number()) {
			t.Errorf("number %d is not name %s", f.Number(), f.Name())
		}
		s, isText := f.Text()
		n, isInt := f.Int()
		switch f.Name() {
		case "s":
			if !isText || string(s) != "text" || isInt {
				t.Error("s is not a string")
			}
		case "n":
			if !isInt || n != -7 || isText {
				t.Error("n is not an int")
			}
		case "in":
			if isText || isInt || f.Kind() != KindMessage || len(f.Raw()) == 0 {
				t.Error("in is not a message")
			}
		}
	}
	if got := strings.Join(names, " "); got != "s in n" || f.Next() {
		t.Fatalf("fields %s", got)
	}
	if none := b.Fields(0); none.Next() {
		t.Error("a message without fields has a field")
	}
}
