package message

// Search matches the messages of one batch, one after the other, against an
// Index. It looks up the names of the batch once, so that matching compares
// numbers instead of names. The zero Search is ready for Start; it keeps its
// buffer from batch to batch. It is not safe for concurrent use.
type Search struct {
	index *Index
	batch Batch
	files []*fieldFile // by number in the dictionary
}

// Start prepares the search of another batch. The index must not change until
// End.
func (s *Search) Start(x *Index, b Batch) {
	s.End()
	s.index, s.batch = x, b
	for n := range b.dict.names {
		s.files = append(s.files, x.fields[string(b.dict.name(n))])
	}
}

// Match appends to dst the keys of the matchers that match message i,
// ascending. It allocates only if dst has no room. It panics if i is not below
// Count, and outside Start and End.
func (s *Search) Match(i int, dst []uint64) []uint64 {
	return s.index.match(&s.batch, i, s.files, dst)
}

// End lets go of batch and index: a Search that waits for the next batch keeps
// the memory of none.
func (s *Search) End() {
	clear(s.files)
	*s = Search{files: s.files[:0]}
}
