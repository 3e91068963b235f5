package store

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/message"
	"github.com/perdure/perdure/store/statefile"
)

// saved returns a file with a little of everything, and the definition of its
// stores.
func saved(t testing.TB) ([]byte, []*statepb.Store) {
	stores := []*statepb.Store{
		{Id: 1, Name: "delays", Durables: []*statepb.Durable{standard(10, "audit")}},
		{Id: 2, Name: "flights", Durables: []*statepb.Durable{standard(11, "audit"), {Id: 12, Name: "a", Kind: 2, Matcher: `{"k":"a"}`}}},
	}
	l := newLoader(t, 1, stores...)
	l.want(OK, AppendResume(nil))
	for range 3 {
		l.want(OK, AppendOpenSession(nil, 2, 0, 0))
	}
	l.want(OK, AppendCreateDurable(nil, &statepb.CreateDurable{Store: 2, Name: "d", Kind: 2}))
	for i := range uint64(9) {
		l.want(OK, AppendPublish(nil, 1+i%2, (i%2)*(i%3+1), 1, 1+i/6, newBatch(t, int(i), "a", "b", "c")))
	}
	l.want(OK, AppendRelease(nil, 11, []Range{{2, 5}}, true))
	l.want(OK, AppendSettle(nil, 10, []Range{{1, 4}}))
	file, _ := l.save()
	return file, stores
}

// TestLoadIsRefused: what does not fit changes nothing, and the load can be done
// again.
func TestLoadIsRefused(t *testing.T) {
	file, stores := saved(t)
	manifest, list := parts(t, file, 1)
	for name, tc := range map[string]struct {
		change func(c *statepb.LoadBegin, list []statefile.Block) []statefile.Block
		code   Code
	}{
		"another hash": {func(c *statepb.LoadBegin, list []statefile.Block) []statefile.Block {
			c.StateHash = "00"
			return list
		}, LoadRefused},
		"another session id": {func(c *statepb.LoadBegin, list []statefile.Block) []statefile.Block {
			c.LastSession++
			return list
		}, LoadRefused},
		"other stores": {func(c *statepb.LoadBegin, list []statefile.Block) []statefile.Block {
			c.Stores[0].Name = "d"
			return list
		}, LoadRefused},
		"the same store twice": {func(c *statepb.LoadBegin, list []statefile.Block) []statefile.Block {
			c.Stores[0].Store = 2
			return list
		}, Invalid},
		"no such store": {func(c *statepb.LoadBegin, list []statefile.Block) []statefile.Block {
			c.Stores[0].Store = 9
			return list
		}, NoSuchStore},
		"stores changed": {func(c *statepb.LoadBegin, list []statefile.Block) []statefile.Block {
			c.Stores[0].Store, c.Stores[1].Store = 2, 1
			return list
		}, LoadRefused},
		"messages from later": {func(c *statepb.LoadBegin, list []statefile.Block) []statefile.Block {
			c.Time = 1
			return list
		}, LoadRefused},
		"no part at all": {func(_ *statepb.LoadBegin, list []statefile.Block) []statefile.Block { return nil }, LoadRefused},
		"text": {func(_ *statepb.LoadBegin, list []statefile.Block) []statefile.Block {
			return []statefile.Block{{Section: statefile.SectionStores, Count: 1, Content: []byte("x")}}
		}, LoadRefused},
		"a manifest": {func(_ *statepb.LoadBegin, list []statefile.Block) []statefile.Block {
			return []statefile.Block{{Section: statefile.SectionManifest, Count: 1, Content: []byte("x")}}
		}, LoadRefused},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLoader(t, 5, stores...)
			c := begin(5, manifest, 1, 2)
			changed := tc.change(c, slices.Clone(list))
			l.refused(c, changed, tc.code)
			l.want(OK, AppendResume(nil))
			l.want(OK, AppendSuspend(nil, 0))
			l.load(begin(6, manifest, 1, 2), list)
		})
	}
	for i := range list {
		l := newLoader(t, 5, stores...)
		l.refused(begin(5, manifest, 1, 2), slices.Delete(slices.Clone(list), i, i+1), LoadRefused)
		l.refused(begin(6, manifest, 1, 2), slices.Insert(slices.Clone(list), i, list[i]), LoadRefused)
	}
}

// refused loads what does not fit, and checks that nothing came of it.
func (l *loader) refused(c *statepb.LoadBegin, list []statefile.Block, code Code) {
	l.t.Helper()
	before := fmt.Sprintf("%+v", l.m.Stats())
	commands := [][]byte{AppendLoadBegin(nil, c)}
	for i := range list {
		commands = append(commands, AppendLoadPart(nil, c.Load, uint64(i), &list[i]))
	}
	for _, command := range append(commands, AppendLoadCommit(nil, c.Load, uint64(len(list)))) {
		l.index++
		var got Result
		for _, m := range []*Machine{l.m, l.twin} {
			out, err := m.Apply(l.index, m.term, l.now, [][]byte{command}, []uint32{0}, nil)
			if err != nil {
				l.t.Fatal(err)
			}
			got = out[0]
		}
		if got.Code == OK {
			continue
		}
		if got.Code != code || got.Detail == "" {
			l.t.Fatalf("%s: %+v, want %v", Command(command), got, code)
		}
		if after := fmt.Sprintf("%+v", l.m.Stats()); after != before || l.m.loads.staged != nil || len(l.m.entries.chunks) > 0 {
			l.t.Fatalf("refused, and\n%s became\n%s", before, after)
		}
		l.restart()
		return
	}
	l.t.Fatal("accepted")
}

func TestLoadNeedsSuspension(t *testing.T) {
	file, stores := saved(t)
	manifest, list := parts(t, file, 100)
	l := newLoader(t, 2, stores...)
	l.want(OK, AppendResume(nil))
	l.want(NotSuspended, AppendLoadBegin(nil, begin(1, manifest, 1, 2)))
	l.want(Invalid, AppendLoadBegin(nil, begin(0, manifest, 1, 2)))
	l.want(NoSuchLoad, AppendLoadPart(nil, 1, 0, &list[0]))
	l.want(NoSuchLoad, AppendLoadCommit(nil, 1, 1))
}

// crafted returns a file of records that nobody checked against each other.
func crafted(t *testing.T, records ...statefile.Record) []byte {
	t.Helper()
	tally := statefile.NewTally(5)
	for _, r := range records {
		if err := tally.Put(r); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	w, err := statefile.NewWriter(&out, &statefile.Manifest{Time: 1e15, Summary: tally.Summary()})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if err := w.Put(r); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestLoadDoubtsFiles: files with right checksums and hashes, of states that
// cannot be, are refused.
func TestLoadDoubtsFiles(t *testing.T) {
	data := plainBatch(t, 1, 5)
	store := &statefile.Store{Name: "flights", Counter: 10}
	wanting := func(matched, acked uint64) *statefile.Durable {
		return &statefile.Durable{Name: "audit", Kind: 1, Prefetch: 5, Matched: matched, Acked: acked, Marks: []byte{0}}
	}
	pending := &statefile.Pending{Runs: []statefile.Run{{First: 1, N: 5}}}
	batch := func(first message.ID, stamp int64) *statefile.Batch {
		return &statefile.Batch{First: first, Count: 5, Stamp: stamp, Len: uint32(len(data)), Bytes: data}
	}
	stores := []*statepb.Store{{Id: 1, Name: "flights", Durables: []*statepb.Durable{standard(10, "audit")}}}
	counts := &statefile.Counts{Ended: []statefile.Ended{{ID: 2, Times: 3}}}
	good := []statefile.Record{store, wanting(7, 2), pending, counts, batch(1, 1e15)}
	manifest, list := parts(t, crafted(t, good...), 1)
	newLoader(t, 6, stores...).load(begin(1, manifest, 1), list)
	if _, _, err := statefile.Verify(bytes.NewReader(crafted(t, good...)), nil); err != nil {
		t.Fatal(err)
	}
	for name, records := range map[string][]statefile.Record{
		"more was wanted than is pending":    {store, wanting(8, 2), pending, batch(1, 1e15)},
		"more was acknowledged than wanted":  {store, wanting(2, 7), pending, batch(1, 1e15)},
		"messages are pending in no batch":   {store, wanting(5, 0), pending},
		"a batch that nobody wants":          {store, wanting(5, 0), pending, batch(1, 1e15), batch(6, 1e15)},
		"a batch has fewer messages":         {store, wanting(7, 2), pending, &statefile.Batch{First: 1, Count: 6, Stamp: 1e15, Len: uint32(len(data)), Bytes: data}},
		"a batch from later than the state":  {store, wanting(7, 2), pending, batch(1, 1e15+1)},
		"batches whose times fall":           {store, wanting(10, 0), &statefile.Pending{Runs: []statefile.Run{{First: 1, N: 10}}}, batch(1, 1e15), batch(6, 1e15-1)},
		"a count of what is not pending":     {store, wanting(7, 2), pending, &statefile.Counts{Ended: []statefile.Ended{{ID: 6, Times: 1}}}, batch(1, 1e15)},
		"a session that has expired":         {store, wanting(7, 2), pending, &statefile.Session{ID: 1, Attempt: 1, Idle: sessionIdle + 1}, batch(1, 1e15)},
		"sessions whose last use falls":      {store, wanting(7, 2), pending, &statefile.Session{ID: 1, Attempt: 1, Idle: 5}, &statefile.Session{ID: 2, Attempt: 1, Idle: 6}, batch(1, 1e15)},
		"more was wanted than can be":        {store, wanting(1<<63+5, 1<<63), pending, batch(1, 1e15)},
		"marks that do not decode":           {store, &statefile.Durable{Name: "audit", Kind: 1, Prefetch: 5, Matched: 5, Marks: []byte{9}}, pending, batch(1, 1e15)},
		"an attachment that was never given": {store, &statefile.Durable{Name: "audit", Kind: 1, Prefetch: 5, Matched: 5, Marks: []byte{0}, Attachment: [3]uint64{1, 2, 3}}, pending, batch(1, 1e15)},
		"a matcher that does not parse":      {store, &statefile.Durable{Name: "audit", Kind: 1, Prefetch: 5, Matcher: "{", Matched: 5, Marks: []byte{0}}, pending, batch(1, 1e15)},
	} {
		t.Run(name, func(t *testing.T) {
			file := crafted(t, records...)
			manifest, list := parts(t, file, 1)
			newLoader(t, 6, stores...).refused(begin(1, manifest, 1), list, LoadRefused)
			if _, _, err := statefile.Verify(bytes.NewReader(file), nil); !errors.Is(err, statefile.Altered) {
				t.Errorf("verified: %v", err)
			}
		})
	}
	// Parts that a tally refuses as well, but that need not come from one.
	for name, change := range map[string]func([]statefile.Block) []statefile.Block{
		"pending twice":    func(l []statefile.Block) []statefile.Block { return slices.Insert(l, 2, l[2]) },
		"counts twice":     func(l []statefile.Block) []statefile.Block { return slices.Insert(l, 3, l[3]) },
		"batch twice":      func(l []statefile.Block) []statefile.Block { return append(l, l[4]) },
		"pending too late": func(l []statefile.Block) []statefile.Block { l[2], l[4] = l[4], l[2]; return l },
	} {
		t.Run(name, func(t *testing.T) {
			newLoader(t, 6, stores...).refused(begin(1, manifest, 1), change(slices.Clone(list)), LoadRefused)
		})
	}
}
