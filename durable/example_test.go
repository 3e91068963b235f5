package durable_test

import (
	"fmt"

	"github.com/perdure/perdure/durable"
)

func ExamplePending() {
	var p durable.Pending
	p.AddRange(1, 10_000) // three batches, say
	p.RemoveRange(1, 4_500)
	p.Remove(4_600)
	fmt.Println(&p)
	first, n, _ := p.NextRun(4_550)
	fmt.Println("deliver", n, "from", first)
	// Output:
	// 5499 pending: 4501-4599 4601-10000
	// deliver 50 from 4550
}

func ExampleMarks() {
	var m durable.Marks
	m.Add(100) // a leader is gone that may have delivered up to 100
	m.Add(150) // and another
	fmt.Println(m.Count(90), m.Count(120), m.Count(151))
	// Output: 2 1 0
}
