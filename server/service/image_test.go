package service_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/cluster/raftlog"
	"github.com/perdure/perdure/message"
	"github.com/perdure/perdure/server/service"
	"github.com/perdure/perdure/store"
	"github.com/perdure/perdure/store/statefile"
)

// scribe is a service that writes down what it applies. The group's loop owns it.
type scribe struct {
	*service.Service
	entries []cluster.Entry
}

func (s *scribe) Apply(e cluster.Entry, out []store.Result) ([]store.Result, error) {
	kept := e
	kept.Offsets, kept.Commands = slices.Clone(e.Offsets), nil
	for _, c := range e.Commands {
		kept.Commands = append(kept.Commands, bytes.Clone(c))
	}
	s.entries = append(s.entries, kept)
	return s.Service.Apply(e, out)
}

// replayed applies entries up to an index to a new machine and saves that.
func replayed(t *testing.T, entries []cluster.Entry, to uint64) []byte {
	t.Helper()
	m, data := store.New(), map[uint64][]byte{}
	for _, e := range entries {
		if e.Index > to {
			break
		}
		for i, c := range e.Commands {
			room := make([]byte, int(e.Offsets[i])-len(data[e.Index]))
			data[e.Index] = slices.Concat(data[e.Index], room, c)
		}
		if _, err := m.Apply(e.Index, e.Term, e.Stamp, e.Commands, e.Offsets, nil); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if _, _, err := m.Save(&out, about, func(entry uint64) ([]byte, error) { return data[entry], nil }); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

var about = statefile.Manifest{Cluster: "main", Epoch: 3, Definition: "name: main"}

// lone is a group of one replica on a real log.
type lone struct {
	t     *testing.T
	rnd   *rand.Rand
	group *cluster.Group[store.Result]
	s     *scribe
	last  message.ID // that was given
}

func newLone(t *testing.T, mode raftlog.Mode) *lone {
	t.Helper()
	e, err := raftlog.Open(raftlog.Options{Dir: t.TempDir(), Mode: mode, SegmentBytes: 64 << 10, MemTableBytes: 1 << 20, CacheBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	log, err := e.Create(1, raftlog.Copy{ReplicaID: 1, Voters: []uint64{1}})
	if err != nil {
		t.Fatal(err)
	}
	host := cluster.OpenHost(cluster.HostOptions{Server: 1, Incarnation: 1, Logger: slog.New(slog.DiscardHandler)})
	l := &lone{t: t, rnd: rand.New(rand.NewPCG(uint64(mode), 4)), s: &scribe{Service: service.New()}}
	leads := make(chan struct{}, 1)
	l.s.OnLead = func() { leads <- struct{}{} }
	cfg := cluster.GroupConfig{
		Options: cluster.Options{Group: 1, ID: 1, Tick: 20 * time.Millisecond, HeartbeatTicks: 2, ElectionTicks: 10},
		Name:    "main", Members: []cluster.Member{{Replica: 1, Server: 1}},
	}
	if l.group, err = cluster.StartGroup(host, cfg, log, l.s, l.s); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(l.group.Close(), host.Close(), e.Close()); err != nil {
			t.Error(err)
		}
	})
	<-leads
	l.propose(store.AppendDeploy(nil, &statepb.Deploy{Revision: 1, Stores: []*statepb.Store{
		{Id: 1, Name: "flights", Durables: []*statepb.Durable{{Id: 11, Name: "audit", Kind: 1}, {Id: 12, Name: "delays", Kind: 2, Matcher: `{"k":"a"}`}}},
		{Id: 2, Name: "gates", Durables: []*statepb.Durable{{Id: 21, Name: "screens", Kind: 1}}}}}),
		store.AppendOpenSession(nil, 1, 0, 0))
	return l
}

// propose has commands applied and returns when they are.
func (l *lone) propose(commands ...[]byte) {
	l.t.Helper()
	done := make(chan error, len(commands))
	for _, c := range commands {
		p := cluster.Proposal[store.Result]{Command: c, Done: func(r store.Result, err error) {
			if err == nil && r.Code != store.OK {
				err = fmt.Errorf("%s: %v %s", store.Command(c), r.Code, r.Detail)
			}
			l.last = max(l.last, r.First)
			done <- err
		}}
		if err := l.group.Propose(l.t.Context(), p); err != nil {
			l.t.Fatal(err)
		}
	}
	for range commands {
		if err := <-done; err != nil {
			l.t.Fatal(err)
		}
	}
}

// live goes on: it publishes, settles some of it, and gives some back.
func (l *lone) live() {
	l.t.Helper()
	for range 4 + l.rnd.IntN(12) {
		var commands [][]byte
		for range 1 + l.rnd.IntN(4) {
			var b message.Builder
			for range 1 + l.rnd.IntN(9) {
				var f message.Message
				f.SetString("k", string(rune('a'+l.rnd.IntN(3))))
				f.SetString("pad", string(make([]byte, l.rnd.IntN(2000))))
				if err := b.Add(&f); err != nil {
					l.t.Fatal(err)
				}
			}
			commands = append(commands, store.AppendPublish(nil, 1+uint64(l.rnd.IntN(2)), 0, 0, 0, b.AppendTo(nil, message.Options{})))
		}
		for _, d := range []uint64{11, 12, 21} {
			switch l.rnd.IntN(6) {
			case 0, 1:
				first := 1 + message.ID(l.rnd.Uint64N(uint64(l.last)+1))
				commands = append(commands, store.AppendSettle(nil, d, []store.Range{{First: first, Last: first + message.ID(l.rnd.IntN(40))}}))
			case 2:
				first := 1 + message.ID(l.rnd.Uint64N(uint64(l.last)+1))
				commands = append(commands, store.AppendRelease(nil, d, []store.Range{{First: first, Last: first + 5}}, true))
			case 3:
				commands = append(commands, store.AppendWatermark(nil, d, l.last/2))
			case 4: // what is old goes, and its entries with it
				commands = append(commands, store.AppendSettle(nil, d, []store.Range{{First: 1, Last: 1 + l.last/2}}))
			}
		}
		l.propose(commands...)
	}
}

// An image is the state at its index, also when it is saved after much of it was
// settled and the log gave back what it could.
func TestImageIsTheStateAtItsIndex(t *testing.T) {
	for _, mode := range []raftlog.Mode{raftlog.Memory, raftlog.Async, raftlog.Sync} {
		t.Run(mode.String(), func(t *testing.T) {
			l := newLone(t, mode)
			var images []*service.Image
			for range 12 {
				l.live()
				c, err := l.group.Capture(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				breaths := 0
				i, err := service.OpenImage(c, func() error { breaths++; return nil })
				if err != nil {
					t.Fatal(err)
				}
				if breaths == 0 {
					t.Error("no breath was taken")
				}
				if images = append(images, i); len(images) == 4 {
					l.check(images[0])
					images = images[1:]
				}
			}
			for _, i := range images {
				l.check(i)
			}
		})
	}
}

// check compares what an image saves with the history up to its index.
func (l *lone) check(i *service.Image) {
	l.t.Helper()
	var history []cluster.Entry
	if err := l.group.Do(l.t.Context(), func(cluster.Now) { history = slices.Clone(l.s.entries) }); err != nil {
		l.t.Fatal(err)
	}
	var out bytes.Buffer
	m, totals, err := i.Save(&out, about)
	if err != nil {
		l.t.Fatal(err)
	}
	if m.Applied == 0 || m.Applied >= history[len(history)-1].Index+1 || m.Applied != i.Machine().Applied() || totals.Size != int64(out.Len()) {
		l.t.Errorf("the manifest says %+v, the history ends at %d", m, history[len(history)-1].Index)
	}
	if want := replayed(l.t, history, m.Applied); !bytes.Equal(out.Bytes(), want) {
		l.t.Errorf("the image at %d is not the state there: %d bytes, want %d", m.Applied, out.Len(), len(want))
	}
	if _, _, err := statefile.Verify(&out, nil); err != nil {
		l.t.Error(err)
	}
	if err := i.Close(); err != nil {
		l.t.Error(err)
	}
}

// Who slows an image down can also end it, while it is read and while it is saved.
func TestImageEnds(t *testing.T) {
	l := newLone(t, raftlog.Memory)
	l.live()
	capture := func() cluster.Capture {
		c, err := l.group.Capture(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	over := errors.New("over")
	if _, err := service.OpenImage(capture(), func() error { return over }); !errors.Is(err, over) {
		t.Errorf("reading ends with %v", err)
	}
	var now error
	i, err := service.OpenImage(capture(), func() error { return now })
	if err != nil {
		t.Fatal(err)
	}
	now = over
	if _, _, err := i.Save(io.Discard, about); !errors.Is(err, over) {
		t.Errorf("saving ends with %v", err)
	}
	if err := i.Close(); err != nil {
		t.Error(err)
	}
}
