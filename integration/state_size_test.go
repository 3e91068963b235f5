package integration

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/integration/harness"
	"github.com/perdure/perdure/internal/flights"
	"github.com/perdure/perdure/message"
)

// mostMemory is what a server may take above what it takes when it is idle, while a
// state is saved or loaded, however large that is.
const mostMemory = 512 << 20

// TestLargeState publishes a state of many flights, saves it, and loads it into a
// cluster that is formed anew. It logs how fast that was, beside what the machine
// does with nothing around, and checks that no server takes memory for the state. By
// hand: -state-gb 4.
func TestLargeState(t *testing.T) {
	bytes := int64(48 << 20)
	if *stateGB > 0 {
		bytes = int64(*stateGB) * 1e9
	}
	definition := harness.Definition(harness.Cluster{Name: "main", Durability: "async"})
	f := harness.Start(t, 3, definition)
	watch := watchMemory(t, f)
	watch.says(t, "idle", 0)
	began := time.Now()
	messages := publishMuch(t, f, bytes)
	published := rate(bytes, began)
	t.Logf("published %d messages, %.2f GB, at %.0f MB/s", messages, float64(bytes)/1e9, published)
	watch.says(t, "publish", 0)

	ctx := within(t, 20*time.Minute)
	admin := f.Client().Admin()
	if _, err := admin.SuspendCluster(ctx, "main"); err != nil {
		t.Fatal(err)
	}
	leader := f.Leader("main")
	began = time.Now()
	saved, err := f.Save(ctx, leader, &perdurepb.SaveClusterRequest{Cluster: "main", ToServer: true}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("saved at %.0f MB/s, into %.2f GB", rate(bytes, began), float64(saved.Bytes)/1e9)
	watch.says(t, "save", mostMemory)
	began = time.Now()
	read, err := readAndCompress(leader.Data)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("what is on the disk, %.2f GB, is read and compressed at %.0f MB/s", float64(read)/1e9, rate(read, began))

	name := filepath.Join(t.TempDir(), "main.state")
	if err := os.Rename(filepath.Join(leader.Data, "state", saved.File), name); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, n := range f.Nodes {
		wg.Go(n.Kill)
	}
	wg.Wait()
	for _, n := range f.Nodes {
		n.Wipe()
	}
	f.StartAll()
	f.Apply(definition)
	f.Cluster("main")
	watch.says(t, "idle again", 0)
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	began = time.Now()
	loaded, err := f.Load(ctx, f.Leader("main"), &perdurepb.LoadOpen{Cluster: "main"}, file)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("loaded at %.0f MB/s, verifying included; published at %.0f MB/s", rate(bytes, began), published)
	watch.says(t, "load", mostMemory)
	if loaded.Messages != uint64(messages) {
		t.Errorf("loaded %d messages of %d", loaded.Messages, messages)
	}
	f.AwaitPending("main", harness.Standard, uint64(messages))
	f.AwaitIdentical("main")
}

// rate is in MB/s.
func rate(bytes int64, since time.Time) float64 {
	return float64(bytes) / 1e6 / time.Since(since).Seconds()
}

// publishMuch publishes messages of about a kilobyte, each a dozen flights.
func publishMuch(t *testing.T, f *harness.Fleet, bytes int64) (messages int) {
	t.Helper()
	lines, err := flights.Lines()
	if err != nil {
		t.Fatal(err)
	}
	ctx := within(t, 20*time.Minute)
	p, err := f.Client().Publisher(ctx, "main", client.WithWindow(64, 16<<20))
	if err != nil {
		t.Fatal(err)
	}
	var m message.Message
	for sum := int64(0); sum < bytes; messages++ {
		m.Body = fmt.Appendf(m.Body[:0], "%d ", messages)
		for at := messages * 7; len(m.Body) < 1000; at++ {
			m.Body = append(m.Body, lines[at%len(lines)]...)
		}
		sum += int64(len(m.Body))
		p.PublishAsync(ctx, &m)
	}
	if err := p.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(ctx); err != nil {
		t.Fatal(err)
	}
	return messages
}

// readAndCompress reads all files of a directory, one after the other, and
// compresses them as states are.
func readAndCompress(dir string) (read int64, err error) {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false),
		zstd.WithSingleSegment(true), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return 0, err
	}
	in, out := make([]byte, 256<<10), make([]byte, 0, 256<<10)
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) == ".state" {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		for {
			n, err := io.ReadFull(file, in)
			out = encoder.EncodeAll(in[:n], out[:0])
			read += int64(n)
			if err != nil {
				return nil
			}
		}
	})
	return read, err
}

// memoryWatch knows the most memory that a server of a fleet took.
type memoryWatch struct {
	mu   sync.Mutex
	most int64
	idle int64
}

// watchMemory looks every 50 ms, until the test ends.
func watchMemory(t *testing.T, f *harness.Fleet) *memoryWatch {
	w := &memoryWatch{}
	stop, ended := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() {
		close(stop)
		<-ended
	})
	go func() {
		defer close(ended)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			for _, n := range f.Nodes {
				m := n.Memory()
				w.mu.Lock()
				w.most = max(w.most, m)
				w.mu.Unlock()
			}
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
	return w
}

// says logs what was taken since it was called last, and fails if that is more than
// limit above the first time.
func (w *memoryWatch) says(t *testing.T, what string, limit int64) {
	t.Helper()
	harness.Pause(200 * time.Millisecond) // to see the end of it
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.idle == 0 {
		w.idle = w.most
	}
	t.Logf("%s: a server took up to %d MiB", what, w.most>>20)
	if limit > 0 && w.most-w.idle > limit {
		t.Errorf("%s: a server took %d MiB more than when it is idle, at most %d may be", what, (w.most-w.idle)>>20, limit>>20)
	}
	w.most = 0
}
