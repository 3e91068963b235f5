package statefile

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// A piece is the header of a file, or one block of it.
type piece []byte

// cut takes a file apart.
func cut(file []byte) (pieces []piece) {
	pieces = append(pieces, slices.Clone(file[:headerLen]))
	for at := headerLen; at < len(file); {
		n := blockHeader + int(binary.LittleEndian.Uint32(file[at+12:]))
		pieces = append(pieces, slices.Clone(file[at:at+n]))
		at += n
	}
	return pieces
}

// seal computes the checksums of a block, or of the file's header.
func (p piece) seal() {
	le := binary.LittleEndian
	if len(p) == headerLen {
		le.PutUint32(p[12:], crc32.Checksum(p[:12], castagnoli))
		return
	}
	le.PutUint32(p[16:], crc32.Checksum(p[blockHeader:], castagnoli))
	p.sealHeader()
}

// join makes a file, whose trailer has the right checksum.
func join(pieces []piece) []byte {
	last := len(pieces) - 1
	var file []byte
	for _, p := range pieces[:last] {
		file = append(file, p...)
	}
	if t := pieces[last]; len(t) == blockHeader+trailerLen {
		sum := sha256.Sum256(file)
		copy(t[blockHeader+24:], sum[:])
		t.seal()
	}
	return append(file, pieces[last]...)
}

// damage returns file with something wrong.
func damage(rnd *rand.Rand, file []byte) []byte {
	file = slices.Clone(file)
	at := rnd.IntN(len(file))
	switch rnd.IntN(7) {
	case 0:
		file[at] ^= 1 << rnd.IntN(8)
		return file
	case 1:
		return file[:at]
	case 2:
		return append(file, make([]byte, 1+rnd.IntN(50))...)
	case 3:
		n := 1 + rnd.IntN(min(40, len(file)-at))
		for i := range n {
			file[at+i] += byte(1 + rnd.IntN(255))
		}
		return file
	}
	// What follows has right checksums, down to the trailer's.
	pieces := cut(file)
	i := rnd.IntN(len(pieces))
	p := pieces[i]
	switch rnd.IntN(4) {
	case 0: // a length, a count, a section, a version
		field := rnd.IntN(min(16, len(p)-4))
		if i == 0 {
			field = 8 + rnd.IntN(4)
		}
		p[field] += byte(1 + rnd.IntN(255))
		p.seal()
		if i == len(pieces)-1 {
			return append(bytes.Join([][]byte{join(pieces[:i])}, nil), p...)
		}
	case 1: // a block less
		if i == 0 {
			i = 1
		}
		pieces = slices.Delete(pieces, i, i+1)
	case 2: // a block twice
		pieces = slices.Insert(pieces, i, slices.Clone(p))
	case 3: // two blocks in the wrong order
		j := (i + 1) % len(pieces)
		pieces[i], pieces[j] = pieces[j], pieces[i]
	}
	return join(pieces)
}

// TestDamageIsRefused reads 10,000 files that are not as they were written. Each
// is refused with a code and a place, and costs no more memory than its lengths
// may announce.
func TestDamageIsRefused(t *testing.T) {
	files := make([][]byte, 20)
	for i := range files {
		files[i] = save(t, append([]Record{}, newState(t, rand.New(rand.NewPCG(uint64(i), 9)))...))
	}
	codes := map[Code]int{}
	var before, after runtime.MemStats
	for seed := range uint64(10_000) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		file := files[rnd.IntN(len(files))]
		bad := damage(rnd, file)
		runtime.ReadMemStats(&before)
		_, _, err := Verify(bytes.NewReader(bad), nil)
		runtime.ReadMemStats(&after)
		if err == nil {
			if bytes.Equal(bad, file) {
				continue
			}
			t.Fatalf("seed %d: accepted", seed)
		}
		var wrong *Error
		if !errors.As(err, &wrong) || wrong.Reason == "" || wrong.Position < 0 || wrong.Position > int64(len(bad)) {
			t.Fatalf("seed %d: %v", seed, err)
		}
		codes[wrong.Code]++
		if used := after.TotalAlloc - before.TotalAlloc; used > 2<<20 {
			t.Fatalf("seed %d: %v took %d bytes for a file of %d", seed, err, used, len(bad))
		}
	}
	for _, c := range []Code{Truncated, Altered, Foreign, Newer} {
		if codes[c] < 50 {
			t.Errorf("%v came %d times: %v", c, codes[c], codes)
		}
	}
}

// TestBombsCostLittle: small files that announce much are refused before much is
// allocated, or as soon as there is more than they announced.
func TestBombsCostLittle(t *testing.T) {
	file := cut(save(t, newState(t, rand.New(rand.NewPCG(4, 4)))))
	le := binary.LittleEndian
	block := func(section Section, announced int, content []byte) piece {
		stored := zstdEncoder().EncodeAll(content, nil)
		p := append(make(piece, blockHeader), stored...)
		p[0], p[1] = byte(section), storedZstd
		le.PutUint32(p[4:], 1)
		le.PutUint32(p[8:], uint32(announced))
		le.PutUint32(p[12:], uint32(len(stored)))
		p.seal()
		return p
	}
	nulls := []byte(`{"stores":[null` + strings.Repeat(",null", 6<<20) + `]}`)
	for name, tc := range map[string]struct {
		at    int
		block piece
		most  uint64
	}{
		"a block over the limit":         {2, block(SectionStores, maxBlock+1, make([]byte, maxBlock+1)), 1 << 20},
		"a block of batches over it":     {2, block(SectionBatches, maxBatchBlock+1, make([]byte, maxBatchBlock+1)), 1 << 20},
		"more than was announced":        {2, block(SectionStores, 1000, make([]byte, maxBlock)), 1 << 20},
		"less than was announced":        {2, block(SectionStores, maxBlock, make([]byte, 1000)), 1 << 20},
		"a manifest of nothing but null": {1, block(SectionManifest, len(nulls), nulls), 2 * maxManifest},
	} {
		pieces := slices.Clone(file)
		pieces[tc.at] = tc.block
		bad := join(pieces)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _, err := Verify(bytes.NewReader(bad), nil)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; !errors.Is(err, Altered) || used > tc.most {
			t.Errorf("%s: %v, %d bytes allocated", name, err, used)
		}
	}
	cutOff := bytes.Join([][]byte{file[0], file[1], block(SectionBatches, maxBatchBlock, nil)[:blockHeader]}, nil)
	le.PutUint32(cutOff[len(cutOff)-12:], maxBatchBlock-1)
	piece(cutOff[len(cutOff)-blockHeader:]).sealHeader()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, _, err := Verify(bytes.NewReader(cutOff), nil)
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; !errors.Is(err, Truncated) || used > 4<<20 {
		t.Errorf("a block that is not there: %v, %d bytes allocated", err, used)
	}
}

// sealHeader computes the checksum of a block's header.
func (p piece) sealHeader() {
	binary.LittleEndian.PutUint32(p[20:], crc32.Checksum(p[:20], castagnoli))
}

// TestEveryByteCounts flips one bit of every byte.
func TestEveryByteCounts(t *testing.T) {
	file := save(t, goldenState(t))
	for at := range file {
		file[at] ^= 1 << (at % 8)
		if _, _, err := Verify(bytes.NewReader(file), nil); err == nil {
			t.Fatalf("byte %d: accepted", at)
		}
		file[at] ^= 1 << (at % 8)
	}
	for n := range len(file) {
		if _, _, err := Verify(bytes.NewReader(file[:n]), nil); !errors.Is(err, Truncated) {
			t.Fatalf("%d of %d bytes: %v", n, len(file), err)
		}
	}
}

func TestCodesTellFilesApart(t *testing.T) {
	file := save(t, newState(t, rand.New(rand.NewPCG(4, 4))))
	edit := func(change func(pieces []piece) []piece) []byte { return join(change(cut(file))) }
	for name, tc := range map[string]struct {
		file []byte
		code Code
	}{
		"empty":             {nil, Truncated},
		"half a magic":      {file[:4], Truncated},
		"text":              {[]byte("stores:\n"), Foreign},
		"short text":        {[]byte("x"), Foreign},
		"another program's": {append([]byte("\x89PNG\r\n\x1a\n"), file[8:]...), Foreign},
		"version 2": {edit(func(p []piece) []piece {
			p[0][8] = 2
			p[0].seal()
			return p
		}), Newer},
		"a section of a later version": {edit(func(p []piece) []piece {
			key := slices.Clone(p[2])
			key[0] = byte(sectionKeys)
			key.seal()
			at := slices.IndexFunc(p[1:], func(p piece) bool { return p[0] > byte(sectionKeys) }) + 1
			return slices.Insert(p, at, key)
		}), Newer},
		"a manifest of a later version": {edit(func(p []piece) []piece {
			content := []byte(`{"cluster":"main","shoe_size":43}`)
			h := slices.Clone(p[1][:blockHeader])
			h[1] = storedPlain
			binary.LittleEndian.PutUint32(h[8:], uint32(len(content)))
			binary.LittleEndian.PutUint32(h[12:], uint32(len(content)))
			p[1] = append(h, content...)
			p[1].seal()
			return p
		}), Newer},
		"text in transfer": {bytes.ReplaceAll(file, []byte("\r\n"), []byte("\n")), Foreign},
	} {
		_, _, err := Verify(bytes.NewReader(tc.file), nil)
		if !errors.Is(err, tc.code) {
			t.Errorf("%s: %v, want %v", name, err, tc.code)
		}
	}
	_, _, err := Verify(io.MultiReader(bytes.NewReader(file[:100]), failing{}), nil)
	var wrong *Error
	if !errors.Is(err, errDisk) || errors.As(err, &wrong) {
		t.Errorf("a disk that fails: %v", err)
	}
}

var errDisk = errors.New("the disk failed")

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errDisk }

// FuzzRead reads any bytes, with their checksums put right so that what is
// behind them is reached.
func FuzzRead(f *testing.F) {
	for seed := range uint64(4) {
		f.Add(save(f, newState(f, rand.New(rand.NewPCG(seed, 1)))), false)
		f.Add(save(f, newState(f, rand.New(rand.NewPCG(seed, 1)))), true)
	}
	f.Fuzz(func(t *testing.T, file []byte, repair bool) {
		if repair && len(file) > headerLen {
			file = repaired(file)
		}
		_, _, err := Verify(bytes.NewReader(file), nil)
		var wrong *Error
		if err != nil && !errors.As(err, &wrong) {
			t.Fatal(err)
		}
	})
}

// repaired puts checksums right as far as the lengths make sense.
func repaired(file []byte) []byte {
	pieces := []piece{slices.Clone(file[:headerLen])}
	for at := headerLen; at+blockHeader <= len(file); {
		n := blockHeader + int(min(binary.LittleEndian.Uint32(file[at+12:]), 1<<20))
		if at+n > len(file) {
			break
		}
		pieces = append(pieces, slices.Clone(file[at:at+n]))
		at += n
	}
	for _, p := range pieces {
		p.seal()
	}
	return join(pieces)
}
