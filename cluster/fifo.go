package cluster

// fifo is a queue that reuses its memory.
type fifo[T any] struct {
	items []T
	head  int
}

func (q *fifo[T]) len() int { return len(q.items) - q.head }

// all is what waits, oldest first, until the next push or pop.
func (q *fifo[T]) all() []T { return q.items[q.head:] }

func (q *fifo[T]) push(t T) {
	if len(q.items) == cap(q.items) && q.head > len(q.items)/2 {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, t)
}

// pop takes the oldest, which must be there.
func (q *fifo[T]) pop() T {
	var zero T
	t := q.items[q.head]
	q.items[q.head] = zero
	if q.head++; q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	return t
}
