package raftlog

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
)

// The format on disk is for ever: testdata/format.golden is never rewritten, new
// versions get a file of their own.
func TestGoldenFormat(t *testing.T) {
	db, err := pebble.Open("", &pebble.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	b := db.NewBatch()
	err = encode(b, &change{
		group:      7,
		generation: 3,
		record:     &copyRecord{generation: 3, copy: Copy{ReplicaID: 2, Epoch: 1, Voters: []uint64{1, 2, 3}}},
		hard:       &hardState{term: 5, vote: 2, commit: 9},
		edge:       &edge{applied: 8, first: 7, termBefore: 4, conf: &pb.ConfState{Voters: []uint64{1, 2, 3}}},
		entries:    []*pb.Entry{newEntry(9, 5, pb.EntryType_EntryNormal, []byte("data")), newEntry(10, 5, pb.EntryType_EntryConfChangeV2, nil)},
		pages:      []cluster.Page{{Key: []byte("key"), Value: []byte("page")}, {Key: []byte("gone")}},
		dead:       []cluster.Range{{Lo: 1, Hi: 2}, {Lo: 2, Hi: 40}},
		cut:        cluster.Range{Lo: 11, Hi: 12},
		drop:       2,
	})
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	for r := b.Reader(); ; {
		kind, key, value, ok, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		fmt.Fprintf(&got, "%v %s %s\n", kind, hex.EncodeToString(key), hex.EncodeToString(value))
	}
	want, err := os.ReadFile("testdata/format.golden")
	if err != nil || got.String() != string(want) {
		t.Errorf("the format has changed (%v):\n%s", err, got.String())
	}
}

// Decoders take any bytes without panic, and give back what they took.
func FuzzDecode(f *testing.F) {
	key := appendEntryKey(nil, 3, 9)
	value := make([]byte, entryHeader+4)
	putEntry(key, value, 9, 5, pb.EntryType_EntryNormal, []byte("data"))
	conf, err := edge{applied: 8, first: 7, termBefore: 4, conf: &pb.ConfState{Voters: []uint64{1}}}.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(key, value)
	f.Add(key, conf)
	f.Add(key, hardState{1, 2, 3}.encode())
	f.Add(key, copyRecord{3, Copy{ReplicaID: 1, Voters: []uint64{1, 2}}}.encode())
	f.Add(key, encodeWatermark(3, map[uint64]mark{7: {1, 2, 3, 4, 5}}))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		if e, err := parseEntry(key, value); err == nil {
			again := make([]byte, entryHeader+len(e.GetData()))
			putEntry(key, again, e.GetIndex(), e.GetTerm(), e.GetType(), e.GetData())
			if !bytes.Equal(again[recordHeader:], value[recordHeader:]) {
				t.Errorf("%x is read as %v", value, e)
			}
		}
		if h, err := parseHard(value); err == nil && !bytes.Equal(h.encode(), value) {
			t.Errorf("%x is read as %v", value, h)
		}
		if r, err := parseCopy(value); err == nil && !bytes.Equal(r.encode(), value) {
			t.Errorf("%x is read as %v", value, r)
		}
		_, _ = parseEdge(value)
		_, _, _ = parseWatermark(value)
	})
}

// Every bit of a record counts.
func TestRecordBits(t *testing.T) {
	key := appendEntryKey(nil, 3, 9)
	value := make([]byte, entryHeader+4)
	putEntry(key, value, 9, 5, pb.EntryType_EntryNormal, []byte("data"))
	for bit := range 8 * len(value) {
		value[bit/8] ^= 1 << (bit % 8)
		if _, err := parseEntry(key, value); err == nil {
			t.Errorf("bit %d is flipped and nobody sees it", bit)
		}
		value[bit/8] ^= 1 << (bit % 8)
	}
	if _, err := parseEntry(appendEntryKey(nil, 4, 9), value); err == nil {
		t.Error("a record under another key is accepted")
	}
	if _, err := parseEntry(key, value); err != nil {
		t.Error(err)
	}
}

func TestTable(t *testing.T) {
	var tb table
	for i := uint64(1); i <= 300; i++ {
		tb.put(data(i, 1, "x"))
	}
	tb.put(data(5, 2, "longer"))
	if tb.get(5).GetTerm() != 2 || tb.get(301) != nil || tb.get(1<<40) != nil {
		t.Error("wrong entries")
	}
	var gone []uint64
	tb.drop(cluster.Range{Lo: 290, Hi: 1<<64 - 1}, func(e *pb.Entry) { gone = append(gone, e.GetIndex()) })
	if len(gone) != 11 || tb.get(289) == nil || tb.get(290) != nil {
		t.Error(gone)
	}
	tb.drop(cluster.Range{Lo: 100, Hi: 101}, nil)
	if tb.get(100) != nil || tb.get(101) == nil {
		t.Error("not one entry was dropped")
	}
	for tb.evict() {
	}
	if tb.bytes != 0 || len(tb.chunks) != 0 {
		t.Errorf("%d bytes in %d chunks are left", tb.bytes, len(tb.chunks))
	}
	for range 200 {
		tb.put(data(7, 1, "x"))
		tb.drop(cluster.Range{Lo: 7, Hi: 8}, nil)
		tb.tidy()
	}
	if len(tb.order) > 64 || tb.bytes != 0 {
		t.Errorf("%d chunks are remembered", len(tb.order))
	}
}

func TestTerms(t *testing.T) {
	var ts terms
	ts.add(0, 0)
	for i, term := range []uint64{1, 1, 2, 2, 2, 5} {
		ts.add(uint64(i+1), term)
	}
	check := func(from uint64, want ...uint64) {
		t.Helper()
		for i, term := range want {
			if got := ts.at(from + uint64(i)); got != term {
				t.Errorf("term of %d is %d, want %d", from+uint64(i), got, term)
			}
		}
		if ts.last() != want[len(want)-1] {
			t.Errorf("last term is %d", ts.last())
		}
	}
	check(0, 0, 1, 1, 2, 2, 2, 5)
	ts.rise(3)
	check(3, 2, 2, 2, 5)
	ts.cut(6)
	check(3, 2, 2, 2)
	ts.cut(5)
	ts.add(5, 7)
	check(3, 2, 2, 7)
	ts.rise(5)
	check(5, 7)
}
