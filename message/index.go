package message

import (
	"cmp"
	"slices"
)

// Index finds which of many matchers match a message. Each matcher is filed
// under one of its terms, so that the cost of a match hardly depends on how
// many matchers differ in the value of one field: the other values are not
// looked at.
//
// Answers, which a Search gives, depend only on the matchers and the message,
// never on the order in which matchers came and went, so replicas agree. The
// zero Index is empty.
type Index struct {
	byKey  map[uint64]*filed
	fields map[string]*fieldFile
	always []uint64    // keys of matchers that match everything, ascending
	absent []candidate // matchers that only ask for absence, ascending by key
}

// filed is a matcher and the term it is filed under.
type filed struct {
	matcher *Matcher
	under   *term // nil for always and absent
}

// candidate is a matcher whose term, under which it is filed, matches. It lies
// in the lists by value, so that few of many cost few cache misses.
type candidate struct {
	key  uint64
	rest *Matcher // what else is to be asked; nil if nothing
}

// fieldFile holds the matchers filed under one field name.
type fieldFile struct {
	texts   map[string][]candidate
	nums    map[int64][]candidate
	present []candidate
}

// Add files a matcher under a key, replacing what was there. A nil matcher
// matches everything.
func (x *Index) Add(key uint64, m *Matcher) {
	x.Remove(key)
	if x.byKey == nil {
		x.byKey = make(map[uint64]*filed)
		x.fields = make(map[string]*fieldFile)
	}
	e := &filed{matcher: m}
	x.byKey[key] = e
	if m.All() {
		at, _ := slices.BinarySearch(x.always, key)
		x.always = slices.Insert(x.always, at, key)
		return
	}
	e.under = x.choose(m)
	if e.under == nil {
		x.absent = insert(x.absent, candidate{key, m})
		return
	}
	c := candidate{key: key}
	if len(m.terms) > 1 {
		c.rest = m
	}
	f := x.fields[e.under.name]
	if f == nil {
		f = &fieldFile{texts: make(map[string][]candidate), nums: make(map[int64][]candidate)}
		x.fields[e.under.name] = f
	}
	switch t := e.under; t.op {
	case opString:
		f.texts[t.text] = insert(f.texts[t.text], c)
	case opInt:
		f.nums[t.num] = insert(f.nums[t.num], c)
	default:
		f.present = insert(f.present, c)
	}
}

// Remove takes the matcher of a key out and reports whether there was one.
func (x *Index) Remove(key uint64) bool {
	e, found := x.byKey[key]
	if !found {
		return false
	}
	delete(x.byKey, key)
	if e.matcher.All() {
		at, _ := slices.BinarySearch(x.always, key)
		x.always = slices.Delete(x.always, at, at+1)
		return true
	}
	if e.under == nil {
		x.absent = remove(x.absent, key)
		return true
	}
	f := x.fields[e.under.name]
	switch t := e.under; t.op {
	case opString:
		if f.texts[t.text] = remove(f.texts[t.text], key); len(f.texts[t.text]) == 0 {
			delete(f.texts, t.text)
		}
	case opInt:
		if f.nums[t.num] = remove(f.nums[t.num], key); len(f.nums[t.num]) == 0 {
			delete(f.nums, t.num)
		}
	default:
		f.present = remove(f.present, key)
	}
	if len(f.texts) == 0 && len(f.nums) == 0 && len(f.present) == 0 {
		delete(x.fields, e.under.name)
	}
	return true
}

// Len returns how many matchers the index holds.
func (x *Index) Len() int { return len(x.byKey) }

// match is Search.Match; files are those of the names of the batch.
func (x *Index) match(b *Batch, i int, files []*fieldFile, dst []uint64) []uint64 {
	start := len(dst)
	dst = append(dst, x.always...)
	if len(x.byKey) == len(x.always) {
		return dst
	}
	for _, c := range x.absent {
		if c.rest.match(b, i) {
			dst = append(dst, c.key)
		}
	}
	if len(x.fields) == 0 {
		return ascending(dst, start)
	}
	for fields, n := b.fields(i); n > 0; n-- {
		number, kind, raw, rest, ok := field(fields)
		if !ok || number >= b.dict.names {
			break
		}
		fields = rest
		if f := files[number]; f != nil {
			dst = f.match(b, i, kind, raw, dst)
		}
	}
	return ascending(dst, start)
}

// ascending puts the keys from start on in order, each once. Each list was
// ascending, so what came from one list alone needs no sorting. A key is there
// twice only if the message was never validated and has a field twice.
func ascending(dst []uint64, start int) []uint64 {
	found := dst[start:]
	for i := 1; i < len(found); i++ {
		if found[i-1] >= found[i] {
			slices.Sort(found)
			return dst[:start+len(slices.Compact(found))]
		}
	}
	return dst
}

// match appends the keys of those filed under one field that match.
func (f *fieldFile) match(b *Batch, i int, kind Kind, raw []byte, dst []uint64) []uint64 {
	var same []candidate
	if kind == KindString {
		same = f.texts[string(raw)]
	} else if n, ok := intValue(kind, raw); ok {
		same = f.nums[n]
	}
	for _, list := range [...][]candidate{same, f.present} {
		for _, c := range list {
			if c.rest == nil || c.rest.match(b, i) {
				dst = append(dst, c.key)
			}
		}
	}
	return dst
}

// choose returns the term under which a matcher is filed: of those that ask
// for a value the one that shares its value with the fewest others so far,
// else one that asks for presence, else nil. The choice decides only how fast
// a match is.
func (x *Index) choose(m *Matcher) *term {
	var best *term
	fewest := 0
	for k := range m.terms {
		t := &m.terms[k]
		if t.op == opAbsent || t.op == opPresent && best != nil {
			continue
		}
		if n := x.sharing(t); best == nil || best.op == opPresent || n < fewest {
			best, fewest = t, n
		}
	}
	return best
}

// sharing returns how many matchers are filed under the same term.
func (x *Index) sharing(t *term) int {
	f := x.fields[t.name]
	switch {
	case f == nil:
		return 0
	case t.op == opString:
		return len(f.texts[t.text])
	case t.op == opInt:
		return len(f.nums[t.num])
	default:
		return len(f.present)
	}
}

func byKey(c candidate, key uint64) int { return cmp.Compare(c.key, key) }

func insert(list []candidate, c candidate) []candidate {
	at, _ := slices.BinarySearchFunc(list, c.key, byKey)
	return slices.Insert(list, at, c)
}

func remove(list []candidate, key uint64) []candidate {
	at, found := slices.BinarySearchFunc(list, key, byKey)
	if !found {
		return list
	}
	return slices.Delete(list, at, at+1)
}
