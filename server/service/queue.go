package service

// queue is a first-in-first-out queue that keeps its memory.
type queue[T any] struct {
	items []T
	head  int
}

// push adds v and returns where it lies, until the next call of any method.
func (q *queue[T]) push(v T) *T {
	if q.head > 0 && len(q.items) == cap(q.items) {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, v)
	return &q.items[len(q.items)-1]
}

// pop returns the oldest item; there must be one.
func (q *queue[T]) pop() T {
	var zero T
	v := q.items[q.head]
	q.items[q.head] = zero
	if q.head++; q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	return v
}

// all returns the items, oldest first.
func (q *queue[T]) all() []T { return q.items[q.head:] }
