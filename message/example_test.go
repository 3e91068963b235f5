package message_test

import (
	"fmt"
	"log"

	"github.com/perdure/perdure/message"
)

// A publisher packs messages; a subscriber reads them.
func ExampleBuilder() {
	var b message.Builder
	for i, symbol := range []string{"ABC", "XYZ"} {
		m := new(message.Message).SetString("symbol", symbol).SetInt("quantity", int64(10*i)).SetHeader("trace", "t-1")
		m.Body = []byte("details")
		if err := b.Add(m); err != nil {
			log.Fatal(err)
		}
	}
	encoded := b.AppendTo(nil, message.Options{})

	batch, err := message.ParseBatch(encoded)
	if err != nil {
		log.Fatal(err)
	}
	for i := range batch.Count() {
		m, err := batch.Message(i)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s %v %s\n", m.AppendJSON(nil), m.Headers, m.Body)
	}
	// Output:
	// {"symbol":"ABC","quantity":0} [{trace t-1}] details
	// {"symbol":"XYZ","quantity":10} [{trace t-1}] details
}

// A server cuts out what a subscriber wants, without decoding it.
func ExampleAppendSelection() {
	var b message.Builder
	for _, body := range []string{"one", "two", "three", "four"} {
		if err := b.AddBody([]byte(body)); err != nil {
			log.Fatal(err)
		}
	}
	cut, err := message.AppendSelection(nil, b.AppendTo(nil, message.Options{}), []int{1, 3})
	if err != nil {
		log.Fatal(err)
	}
	two, err := message.ParseBatch(cut)
	if err != nil {
		log.Fatal(err)
	}
	for i := range two.Count() {
		body, err := two.Body(i)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s\n", body)
	}
	// Output:
	// two
	// four
}

func ExampleParseMatcher() {
	m, err := message.ParseMatcher(`{ "type": "order", "part": 7, "test": false }`)
	fmt.Println(m, err)

	_, err = message.ParseMatcher(`{"part": 7.5}`)
	fmt.Println(err)
	// Output:
	// {"part":7,"test":false,"type":"order"} <nil>
	// message: bad matcher: at byte 10, in "part": 7.5 is not an integer of 64 bits, and matchers compare only these
}

// Many durables partition the messages of a store by one field.
func ExampleSearch() {
	var x message.Index
	for key, text := range []string{`{"part":0}`, `{"part":1}`, `{}`, `{"part":false}`} {
		m, err := message.ParseMatcher(text)
		if err != nil {
			log.Fatal(err)
		}
		x.Add(uint64(key), m)
	}
	var b message.Builder
	for _, m := range []*message.Message{new(message.Message).SetInt("part", 1), {}} {
		if err := b.Add(m); err != nil {
			log.Fatal(err)
		}
	}
	batch, err := message.ParseBatch(b.AppendTo(nil, message.Options{}))
	if err != nil {
		log.Fatal(err)
	}
	var s message.Search
	s.Start(&x, batch)
	fmt.Println(s.Match(0, nil), s.Match(1, nil))
	s.End()
	// Output:
	// [1 2] [2 3]
}

func ExampleFromJSON() {
	m, err := message.FromJSON([]byte(`{"symbol":"ABC","price":1.5,"parts":[1,2]}`))
	fmt.Println(m.Fields, err)

	_, err = message.FromJSON([]byte(`{"order":{"parts":[1,"two"]}}`))
	fmt.Println(err)
	// Output:
	// [{symbol "ABC"} {price 1.5} {parts [1,2]}] <nil>
	// message: bad JSON: at byte 22, in "order.parts[1]": string in an array that began with int64: elements must be of one kind
}

func ExampleID() {
	id := message.MakeID(2, 17)
	fmt.Println(id, id.Epoch(), id.Counter(), message.MakeID(0, 18))
	// Output:
	// 2:17 2 17 18
}
