package raftlog

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/cluster/clustertest"
)

// sealedEntry is a normal entry as a leader seals it.
func sealedEntry(index, term uint64, content string) *pb.Entry {
	return newEntry(index, term, pb.EntryType_EntryNormal, cluster.SealEntry(term, 1, []byte(content)))
}

// The checksum that an entry carries is the journal's only where the write says so
// and the entry looks like it: then a wrong one condemns the entry, else it is
// bytes like others.
func TestCarriedSumIsTakenWhereTheWriteSaysSo(t *testing.T) {
	lies := sealedEntry(1, 1, "this was changed after it was sealed")
	lies.Data[len(lies.Data)-1] ^= 1
	for name, test := range map[string]struct {
		entry  *pb.Entry
		summed bool
		bad    bool
	}{
		"right":                   {sealedEntry(1, 1, "right"), true, false},
		"right, not said":         {sealedEntry(1, 1, "right"), false, false},
		"wrong":                   {lies, true, true},
		"wrong, not said":         {lies, false, false},
		"looks like no entry":     {data(1, 1, "0000 and what else is in it"), true, false},
		"short":                   {data(1, 1, "abc"), true, false},
		"empty":                   {data(1, 1, ""), true, false},
		"configuration change":    {newEntry(1, 1, pb.EntryType_EntryConfChangeV2, lies.Data), true, false},
		"of a version to come":    {data(1, 1, "0000\x03\x01 and what else is in it"), true, false},
		"of another kind":         {data(1, 1, "0000\x02\x02 and what else is in it"), true, false},
		"configuration, not said": {newEntry(1, 1, pb.EntryType_EntryConfChange, lies.Data), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSubject(t, testOptions(t, Sync, vfs.NewMem()))
			s.log.Append(cluster.Write{Entries: []*pb.Entry{test.entry}, Summed: test.summed}, func(bool) {})
			s.Settle()
			j := s.engine.journal.journal
			at := s.engine.journal.where.hot[s.log.mu.generation].find(1).at
			r, err := j.Read(at)
			if test.bad != (err != nil) {
				t.Errorf("read %v: %v", at, err)
			}
			if err == nil && !bytes.Equal(r.Data, test.entry.Data) {
				t.Errorf("it holds %q", r.Data)
			}
			if _, carries := cluster.EntrySum(test.entry); err == nil && r.Summed != (carries && test.summed) {
				t.Errorf("the record carries its checksum: %v", r.Summed)
			}
		})
	}
}

// A flipped bit in the body of a sealed entry is found when its log opens.
func TestDamagedSealedEntry(t *testing.T) {
	o := testOptions(t, Sync, vfs.NewMem())
	o.Logger = nil
	s := newSubject(t, o)
	for i := uint64(1); i <= 20; i++ {
		s.log.Append(cluster.Write{Entries: []*pb.Entry{sealedEntry(i, 1, fmt.Sprint("content ", i, "."))}, Summed: true}, func(bool) {})
		s.Settle()
	}
	if err := s.engine.Close(); err != nil {
		t.Fatal(err)
	}
	damageRecord(t, o.FS, "content 13.")
	s.open()
	_, err := s.engine.Open(7)
	wantCorrupt(t, err)
	var c *CorruptError
	if errors.As(err, &c) && c.Index != 13 {
		t.Errorf("entry %d is damaged", c.Index)
	}
}

// What moves to another segment keeps its checksum.
func TestMovedEntriesCarryTheirSum(t *testing.T) {
	r := newJournalRig(t, Sync)
	for i := uint64(1); i <= 40; i++ {
		r.quiet.Append(cluster.Write{Entries: []*pb.Entry{sealedEntry(i, 3, fmt.Sprint("kept ", i))}, Summed: true}, func(bool) {})
		r.flow(7)
	}
	r.flow(600)
	s := r.engine.journal
	moved := 0
	for i := uint64(1); i <= 40; i++ {
		p, err := s.lookUp(r.quiet.mu.generation, i)
		if err != nil || p == nil {
			t.Fatal(i, p, err)
		}
		rec, err := s.journal.Read(p.at)
		if err != nil || !rec.Summed || !bytes.Equal(rec.Data, sealedEntry(i, 3, fmt.Sprint("kept ", i)).Data) {
			t.Errorf("entry %d: %+v, %v", i, rec, err)
		}
		if rec.Kind == journalMoved {
			moved++
		}
	}
	if moved == 0 {
		t.Error("nothing was moved")
	}
}

// BenchmarkSealAppend seals entries of 64 KiB and appends them to a log, which
// computes a checksum of its own or takes that of the entry.
func BenchmarkSealAppend(b *testing.B) {
	for name, summed := range map[string]bool{"computed again": false, "carried": true} {
		b.Run(name, func(b *testing.B) {
			e, err := Open(Options{Dir: "log", Mode: Async, FS: vfs.NewMem()})
			if err != nil {
				b.Fatal(err)
			}
			defer e.Close()
			l, err := e.Create(1, Copy{ReplicaID: 1, Voters: clustertest.Voters})
			if err != nil {
				b.Fatal(err)
			}
			body := make([]byte, 64<<10)
			b.SetBytes(int64(len(body)))
			done := make(chan struct{}, 1)
			for i := uint64(1); b.Loop(); i++ {
				entry := newEntry(i, 1, pb.EntryType_EntryNormal, cluster.SealEntry(1, 1, body))
				l.Append(cluster.Write{Entries: []*pb.Entry{entry}, Summed: summed}, func(bool) { done <- struct{}{} })
				<-done
				if i%256 == 0 {
					if err := l.Checkpoint(cluster.Checkpoint{Applied: i, First: i + 1, Dead: []cluster.Range{{Lo: i - 255, Hi: i + 1}}}); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
