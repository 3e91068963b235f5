package raftlog

import (
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/perdure/perdure/cluster"
)

// An interval that is changed while the engine runs is what it syncs by: what
// would have waited for an hour survives a power cut soon after.
func TestSyncIntervalChangesLive(t *testing.T) {
	fs := vfs.NewCrashableMem()
	e, err := Open(testOptions(t, Async, fs))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	l, err := e.Create(7, Copy{ReplicaID: 1, Voters: []uint64{1}})
	if err != nil {
		t.Fatal(err)
	}
	l.Append(cluster.Write{Entries: []*pb.Entry{{Term: new(uint64(1)), Index: new(uint64(1)), Data: []byte("kept")}}}, func(bool) {})
	e.SetSyncInterval(time.Millisecond)
	deadline := time.Now().Add(30 * time.Second)
	for tick := time.Tick(5 * time.Millisecond); time.Now().Before(deadline); <-tick {
		crashed, err := Open(testOptions(t, Async, fs.CrashClone(vfs.CrashCloneCfg{})))
		if err != nil {
			t.Fatal(err)
		}
		after, err := crashed.Open(7)
		if err != nil {
			t.Fatal(err)
		}
		last, _ := after.LastIndex()
		if err := crashed.Close(); err != nil {
			t.Fatal(err)
		}
		if last == 1 {
			return
		}
	}
	t.Error("the entry is not on disk after 30 s at an interval of 1 ms")
}
