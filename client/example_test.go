package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/message"
)

// The examples talk to servers such as those of "perdure dev", so they are
// compiled, and not run, by the tests.

func ExampleConnect() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := client.Connect(ctx, "127.0.0.1:7400,127.0.0.1:7410,127.0.0.1:7420", client.WithName("billing"))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close(context.Background())
}

func ExamplePublisher_Publish() {
	ctx := context.Background()
	c, err := client.Connect(ctx, "127.0.0.1:7400")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close(ctx)
	p, err := c.Publisher(ctx, "flights")
	if err != nil {
		log.Fatal(err)
	}
	m := new(message.Message).SetString("origin", "LAS").SetInt("delay", 12)
	switch receipt, err := p.Publish(ctx, m); {
	case err == nil:
		fmt.Println("stored as", receipt.ID)
	case errors.Is(err, client.ErrOutcomeUnknown):
		fmt.Println("perhaps stored:", err)
	default:
		fmt.Println("not stored:", err)
	}
}

func ExamplePublisher_PublishAsync() {
	ctx := context.Background()
	c, err := client.Connect(ctx, "127.0.0.1:7400")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close(ctx)
	p, err := c.Publisher(ctx, "flights")
	if err != nil {
		log.Fatal(err)
	}
	m := &message.Message{}
	for i := range 1000 {
		m.Body = fmt.Append(m.Body[:0], i)
		p.PublishAsync(ctx, m) // waits only while the window is full
	}
	if err := p.Flush(ctx); err != nil {
		log.Fatal(err)
	}
}

func ExamplePublisher_PublishBatch() {
	ctx := context.Background()
	c, err := client.Connect(ctx, "127.0.0.1:7400")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close(ctx)
	p, err := c.Publisher(ctx, "accounts", client.WithRetry(5*time.Second))
	if err != nil {
		log.Fatal(err)
	}
	// Both are stored, or neither is.
	_, err = p.PublishBatch(ctx, []*message.Message{
		new(message.Message).SetString("account", "a").SetInt("change", -5),
		new(message.Message).SetString("account", "b").SetInt("change", 5),
	})
	if err != nil {
		log.Fatal(err)
	}
}

func ExampleSubscription_Receive() {
	ctx := context.Background()
	c, err := client.Connect(ctx, "127.0.0.1:7400")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close(ctx)
	s, err := c.Subscribe(ctx, "flights", client.Durable("billing"), client.Match(`{"origin":"LAS"}`))
	if err != nil {
		log.Fatal(err)
	}
	for {
		d, err := s.Receive(ctx)
		if err != nil {
			log.Fatal(err) // ErrForceClosed: somebody took the durable over
		}
		fmt.Printf("%v %s\n", d.ID(), d.Body())
		if err := d.AckSync(ctx); err != nil {
			log.Print(err) // it comes again
		}
	}
}

func ExampleSubscription_All() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := client.Connect(ctx, "127.0.0.1:7400")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close(context.Background())
	s, err := c.Subscribe(ctx, "flights", client.SubscriberName("worker"), client.Shared())
	if err != nil {
		log.Fatal(err)
	}
	for d, err := range s.All(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		m, err := d.Message()
		if err != nil {
			log.Fatal(err)
		}
		origin, _ := m.Get("origin")
		fmt.Println(origin)
		if err := d.Ack(); err != nil {
			log.Fatal(err)
		}
	}
}

func ExampleSubscription_Consume() {
	ctx := context.Background()
	c, err := client.Connect(ctx, "127.0.0.1:7400")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close(ctx)
	s, err := c.Subscribe(ctx, "flights", client.Durable("delays"), client.Shared(), client.Prefetch(64))
	if err != nil {
		log.Fatal(err)
	}
	time.AfterFunc(time.Hour, func() {
		if err := s.Drain(ctx); err != nil { // ends Consume when all handlers are done
			log.Print(err)
		}
	})
	err = s.Consume(ctx, func(ctx context.Context, d client.Delivery) error {
		if d.EndedDeliveries() > 5 { // DeliveryCount also counts what a dead server may have done
			return park(ctx, d) // somewhere safe: once this returns nil, the message is gone
		}
		return process(ctx, d.Body()) // an error gives it back, later each time
	}, client.Workers(4))
	if err != nil {
		log.Fatal(err)
	}
}

func process(context.Context, []byte) error { return nil }

func park(context.Context, client.Delivery) error { return nil }

func ExampleAdmin_ApplyRealm() {
	ctx := context.Background()
	c, err := client.Connect(ctx, "127.0.0.1:7400")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close(ctx)
	document := []byte("realm: demo\n")
	plan, err := c.Admin().ApplyRealm(ctx, document, "realm.yaml")
	var e *client.Error
	if errors.As(err, &e) {
		for _, p := range e.Problems {
			fmt.Printf("realm.yaml:%d:%d: %s: %s\n", p.Line, p.Column, p.Path, p.Message)
		}
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("revision", plan.Revision)
}

// Errors are compared with sentinels; their reason is stable, too.
func ExampleError() {
	err := error(&client.Error{Reason: "STORE_FULL", Retryable: true})
	fmt.Println(errors.Is(err, client.ErrStoreFull))
	fmt.Println(err)
	// Output:
	// true
	// client: STORE_FULL: the store is full
}
