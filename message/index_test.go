package message

import (
	"fmt"
	"slices"
	"testing"
)

// matcher makes a matcher whose terms collide often with gen's messages.
func (g gen) matcher(t testing.TB) *Matcher {
	if g.IntN(8) == 0 {
		return nil
	}
	m := &Matcher{}
	for n := range 5 {
		term := term{name: fmt.Sprintf("n%d", n)}
		switch g.IntN(9) {
		case 0:
			term.op, term.num = opInt, g.Int64N(3)
		case 1:
			term.op, term.text = opString, fmt.Sprint(g.IntN(3))
		case 2:
			term.op = opPresent
		case 3:
			term.op = opAbsent
		default:
			continue
		}
		m.terms = append(m.terms, term)
	}
	return mustMatcher(t, m.String())
}

// flat makes a message that such matchers may match.
func (g gen) flat() *Message {
	m := &Message{}
	for n := range 5 {
		name := fmt.Sprintf("n%d", n)
		switch g.IntN(5) {
		case 0:
			m.SetInt(name, g.Int64N(3))
		case 1:
			m.SetString(name, fmt.Sprint(g.IntN(3)))
		case 2:
			m.SetFloat(name, 1)
		}
	}
	return m
}

// TestIndexAgainstNaiveMatching adds, replaces and removes matchers at random,
// and after each step compares the index with asking each matcher.
func TestIndexAgainstNaiveMatching(t *testing.T) {
	var search Search // kept, to see that nothing of an earlier batch stays
	for seed := range uint64(12) {
		g := newGen(seed)
		var x Index
		model := map[uint64]*Matcher{}
		hits := 0
		for range 120 {
			key := g.Uint64N(60)
			if g.IntN(3) == 0 {
				_, had := model[key]
				if x.Remove(key) != had {
					t.Fatalf("seed %d: removing %d", seed, key)
				}
				delete(model, key)
			} else {
				m := g.matcher(t)
				x.Add(key, m)
				model[key] = m
			}
			if x.Len() != len(model) {
				t.Fatalf("seed %d: %d matchers, want %d", seed, x.Len(), len(model))
			}
			b := encode(t, Options{}, g.flat(), g.flat(), &Message{})
			search.Start(&x, b)
			for i := range b.Count() {
				want := []uint64{1 << 60}
				for key, m := range model {
					if m.Match(b, i) {
						want = append(want, key)
					}
				}
				slices.Sort(want[1:])
				hits += len(want) - 1
				if got := search.Match(i, []uint64{1 << 60}); !slices.Equal(got, want) {
					t.Fatalf("seed %d: found %v, want %v", seed, got, want)
				}
			}
		}
		if hits == 0 {
			t.Fatalf("seed %d: nothing ever matched", seed)
		}
	}
}

func TestIndexForgetsEverything(t *testing.T) {
	g := newGen(9)
	var x Index
	for key := range uint64(500) {
		x.Add(key, g.matcher(t))
	}
	for key := range uint64(500) {
		x.Remove(key)
	}
	if len(x.byKey)+len(x.fields)+len(x.always)+len(x.absent) != 0 {
		t.Fatalf("%d keys, %d fields, %d always, %d absent are left", len(x.byKey), len(x.fields), len(x.always), len(x.absent))
	}
}

func TestMatchersOfEverything(t *testing.T) {
	var x Index
	if x.Remove(1) || x.Len() != 0 {
		t.Fatal("the zero Index is not empty")
	}
	b := encode(t, Options{}, &Message{})
	x.Add(9, nil)
	x.Add(3, &Matcher{})
	x.Add(5, mustMatcher(t, `{"a":1}`))
	if got := matching(&x, b, 0); !slices.Equal(got, []uint64{3, 9}) || x.Len() != 3 {
		t.Fatalf("%v of %d match", got, x.Len())
	}
	x.Add(5, nil)
	if got := matching(&x, b, 0); !slices.Equal(got, []uint64{3, 5, 9}) || x.Len() != 3 {
		t.Fatalf("%v of %d match", got, x.Len())
	}
}

// matching returns the keys of the matchers that match message i of b.
func matching(x *Index, b Batch, i int) []uint64 {
	var s Search
	s.Start(x, b)
	defer s.End()
	return s.Match(i, nil)
}

// A Search that ended keeps nothing of the batch, which may be large, nor of the
// index.
func TestSearchKeepsNoBatch(t *testing.T) {
	var x Index
	x.Add(1, mustMatcher(t, `{"n":1}`))
	var s Search
	s.Start(&x, encode(t, Options{}, new(Message).SetInt("n", 1)))
	if got := s.Match(0, nil); !slices.Equal(got, []uint64{1}) {
		t.Fatalf("%v match", got)
	}
	s.End()
	if s.index != nil || s.batch.raw != nil || s.batch.head != nil || s.batch.body != nil || s.batch.dict.names != 0 {
		t.Errorf("kept %+v", s)
	}
	for _, f := range s.files[:cap(s.files)] {
		if f != nil {
			t.Error("a part of the index is kept")
		}
	}
}

// TestIndexFilesUnderWhatTellsApart: matchers that share one field's value and
// differ in another's must not be filed under the shared one, or each match
// would look at all of them.
func TestIndexFilesUnderWhatTellsApart(t *testing.T) {
	var x Index
	for part := range uint64(1000) {
		x.Add(part, mustMatcher(t, fmt.Sprintf(`{"all":"same","part":%d}`, part)))
	}
	longest := 0
	for _, f := range x.fields {
		for _, list := range f.texts {
			longest = max(longest, len(list))
		}
		for _, list := range f.nums {
			longest = max(longest, len(list))
		}
	}
	if longest > 2 {
		t.Fatalf("%d matchers are filed under one value", longest)
	}
}
