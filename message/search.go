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
// the next Start.
func (s *Search) Start(x *Index, b Batch) {
	s.index, s.batch = x, b
	clear(s.files)
	s.files = s.files[:0]
	for n := range b.dict.names {
		s.files = append(s.files, x.fields[string(b.dict.name(n))])
	}
}

// Match appends to dst what Index.Match appends for message i of the batch.
func (s *Search) Match(i int, dst []uint64) []uint64 {
	return s.index.match(&s.batch, i, s.files, dst)
}
