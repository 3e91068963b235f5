package message

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"sync"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

func TestCompressionIsKeptOnlyIfItHelps(t *testing.T) {
	g := newGen(1)
	noise := make([]byte, 4000)
	for i := range noise {
		noise[i] = byte(g.Uint32())
	}
	tests := map[string]struct {
		body []byte
		want bool
	}{
		"text":  {bytes.Repeat([]byte("the same again, "), 200), true},
		"noise": {noise, false},
		"short": {make([]byte, minCompress-1), false},
		"empty": {nil, false},
	}
	for name, tc := range tests {
		for _, how := range []Compression{CompressS2, CompressZstd} {
			m := &Message{Body: tc.body}
			b := encode(t, Options{Head: how, Body: how}, m, &Message{})
			sameMessages(t, b, []*Message{m, {}})
			h := b.Header()
			if got := h.BodyCompression == how; got != tc.want || got != (h.BodyLen < h.BodyRawLen) {
				t.Errorf("%s with %v: %+v", name, how, h)
			}
			if h.HeadCompression != CompressNone {
				t.Errorf("%s with %v: a head of %d bytes is compressed", name, how, h.HeadRawLen)
			}
		}
	}
}

func TestParseCompression(t *testing.T) {
	for c := range maxCompression + 1 {
		if got, err := ParseCompression(c.String()); err != nil || got != c {
			t.Errorf("%v reads back as %v, %v", c, got, err)
		}
	}
	for _, s := range []string{"", "S2", "gzip", "compression 3"} {
		if _, err := ParseCompression(s); !errors.Is(err, ErrValue) {
			t.Errorf("%q: error %v", s, err)
		}
	}
}

// bomb makes a batch of one message whose body section is the given bytes and
// whose header announces rawLen for it.
func bomb(how Compression, stored []byte, rawLen int) []byte {
	var head []byte
	head = binary.LittleEndian.AppendUint32(head, uint32(rawLen))
	h := BatchHeader{
		Count: 1, HeadLen: 4, HeadRawLen: 4,
		BodyCompression: how, BodyLen: len(stored), BodyRawLen: rawLen,
	}
	raw := make([]byte, HeaderSize)
	h.put(raw)
	return reseal(append(append(raw, head...), stored...))
}

func zstdFrame(t testing.TB, src []byte, opts ...zstd.EOption) []byte {
	t.Helper()
	e, err := zstd.NewWriter(nil, opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	return e.EncodeAll(src, nil)
}

func TestDecompressionBombs(t *testing.T) {
	zeros := make([]byte, MaxEncodedSize+4<<20)
	s2Bomb, zstdBomb := s2.Encode(nil, zeros), zstdFrame(t, zeros)
	var stream bytes.Buffer // a frame that does not announce its size
	e, err := zstd.NewWriter(&stream)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Write(zeros); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d zeros are %d bytes of s2, %d of zstd", len(zeros), len(s2Bomb), len(zstdBomb))
	const claimed = MaxEncodedSize - 1000
	tests := map[string][]byte{
		"s2, the truth":             bomb(CompressS2, s2Bomb, len(zeros)),
		"zstd, the truth":           bomb(CompressZstd, zstdBomb, len(zeros)),
		"s2, a lie":                 bomb(CompressS2, s2Bomb, max(claimed, len(s2Bomb)+1)),
		"zstd, a lie":               bomb(CompressZstd, zstdBomb, claimed),
		"zstd, no size":             bomb(CompressZstd, stream.Bytes(), claimed),
		"zstd, two frames":          bomb(CompressZstd, append(zstdFrame(t, zeros[:claimed]), zstdFrame(t, zeros[:claimed])...), claimed),
		"zstd, size is less":        bomb(CompressZstd, zstdFrame(t, zeros[:1000]), 2000),
		"zstd, only a magic number": bomb(CompressZstd, []byte{0x28, 0xb5, 0x2f, 0xfd}, 2000),
		"zstd, skippable":           bomb(CompressZstd, []byte{0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0}, 2000),
		"s2, cut off":               bomb(CompressS2, s2.Encode(nil, zeros[:5000])[:5], 5000),
		"s2, empty":                 bomb(CompressS2, nil, 5000),
		"noise":                     bomb(CompressS2, []byte("no s2 block at all"), 5000),
	}
	var before, after runtime.MemStats
	for name, raw := range tests {
		runtime.ReadMemStats(&before)
		b, err := ParseBatch(raw)
		if err == nil {
			_, err = b.Body(0)
		}
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: error %v", name, err)
		}
		if got := after.TotalAlloc - before.TotalAlloc; got > 2*MaxEncodedSize {
			t.Errorf("%s: %d bytes were allocated", name, got)
		}
	}
}

func TestHeadBomb(t *testing.T) {
	zeros := make([]byte, MaxEncodedSize+4<<20)
	stored := s2.Encode(nil, zeros)
	h := BatchHeader{Count: 1, HeadCompression: CompressS2, HeadLen: len(stored), HeadRawLen: MaxEncodedSize - HeaderSize}
	raw := make([]byte, HeaderSize)
	h.put(raw)
	if _, err := ParseBatch(reseal(append(raw, stored...))); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTooLarge) {
		t.Fatalf("error %v", err)
	}
}

func TestValidateDecompressesBodies(t *testing.T) {
	b, err := ParseBatch(bomb(CompressS2, []byte("no s2 block at all"), 5000))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Validate(0); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("error %v, want ErrCorrupt", err)
	}
	if _, err := b.Message(0); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("error %v, want ErrCorrupt", err)
	}
}

// TestBatchIsSharedByManyReaders is for the race detector: the first to ask
// for a body decompresses for all.
func TestBatchIsSharedByManyReaders(t *testing.T) {
	m := new(Message).SetInt("n", 1)
	m.Body = bytes.Repeat([]byte("the same again, "), 100)
	msgs := []*Message{m, {}, m}
	b := encode(t, Options{Head: CompressS2, Body: CompressZstd}, msgs...)
	b, err := ParseBatch(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	var x Index
	x.Add(1, mustMatcher(t, `{"n":1}`))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			sameMessages(t, b, msgs)
			if len(matching(&x, b, 0)) != 1 || len(matching(&x, b, 1)) != 0 {
				t.Error("the index answers differently")
			}
			if _, err := AppendSelection(nil, b.Bytes(), []int{0, 1}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
