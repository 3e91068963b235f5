package client_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/message"
)

// TestPublishingUnderRandomFaults holds the publisher to its three answers: a
// receipt means stored once, at that id; an error that is not ErrOutcomeUnknown
// means never stored; and what is stored is in the order of publishing.
func TestPublishingUnderRandomFaults(t *testing.T) {
	for seed := range uint64(50) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) { publishUnderFaults(t, w, rand.New(rand.NewPCG(seed, 7))) })
		})
	}
}

func publishUnderFaults(t *testing.T, w *world, random *rand.Rand) {
	retry := []time.Duration{client.RetryForever, client.RetryNever, 2 * time.Second}[random.IntN(3)]
	c := w.connect(client.WithRetry(retry))
	p := publisher(t, c, client.WithBatchTarget(1+random.IntN(400)), client.WithWindow(1+random.IntN(64), 1<<20))
	faulty := true
	w.with(func() {
		verdicts := rand.New(rand.NewPCG(random.Uint64(), 0)) // used under the lock
		w.onBatch = func(*perdurepb.PublishRequest) verdict {
			if !faulty {
				return verdict{}
			}
			return randomVerdict(w, verdicts)
		}
	})
	const n = 600
	futures := make([]client.Future, n)
	for i := range n {
		switch random.IntN(60) {
		case 0:
			from := []string{"s1", "s2", "s3"}[random.IntN(3)]
			w.kill(from)
			w.start(from)
			w.lead([]string{"s1", "s2", "s3"}[random.IntN(3)])
		case 1:
			pass(time.Duration(random.IntN(1000)) * time.Millisecond)
		}
		futures[i] = p.PublishAsync(t.Context(), text(fmt.Sprint(i)))
	}
	time.AfterFunc(time.Minute, func() {
		w.lead("s1")
		w.with(func() { faulty = false })
	})
	errs := make([]error, n)
	ids := make([]message.ID, n)
	for i, f := range futures {
		r, err := f.Wait(t.Context())
		errs[i], ids[i] = err, r.ID
	}
	closeAll(t, c)
	checkAnswers(t, w, ids, errs)
}

func randomVerdict(w *world, random *rand.Rand) verdict {
	switch random.IntN(40) {
	case 0:
		return verdict{drop: true}
	case 1:
		return verdict{lose: true}
	case 2:
		return verdict{reason: perdurepb.Reason_REASON_STORE_FULL}
	case 3:
		return verdict{reason: perdurepb.Reason_REASON_BATCH_CORRUPT}
	case 4:
		return verdict{reason: perdurepb.Reason_REASON_MESSAGE_TOO_LARGE, early: true}
	case 5:
		return verdict{reason: perdurepb.Reason_REASON_OVERLOADED, early: true}
	case 6:
		return verdict{reason: perdurepb.Reason_REASON_STORE_FULL, lose: true}
	case 7:
		return verdict{silent: true}
	case 8:
		if random.IntN(4) == 0 {
			clear(w.store.sessions)
		}
	case 9:
		w.leader = []string{"s1", "s2", "s3"}[random.IntN(3)]
		return verdict{lose: random.IntN(2) == 0, drop: true}
	}
	return verdict{}
}

func checkAnswers(t *testing.T, w *world, ids []message.ID, errs []error) {
	at := map[string]int{}
	last := -1
	for position, body := range w.stored() {
		if _, twice := at[body]; twice {
			t.Errorf("message %s is stored twice", body)
		}
		at[body] = position
		var i int
		if _, err := fmt.Sscan(body, &i); err != nil || i <= last {
			t.Errorf("message %s is stored behind %d", body, last)
		}
		last = i
	}
	known := 0
	for i, err := range errs {
		position, stored := at[fmt.Sprint(i)]
		switch {
		case err == nil && (!stored || ids[i] != message.ID(position+1)):
			t.Errorf("message %d has receipt %d; stored is %v, at %d", i, ids[i], stored, position+1)
		case err != nil && stored && !errors.Is(err, client.ErrOutcomeUnknown):
			t.Errorf("message %d is stored, the error is %v", i, err)
		case err == nil:
			known++
		}
	}
	if known == 0 {
		t.Error("no message came through: the test tests nothing")
	}
}

// TestSubscriptionUnderRandomFaults holds a subscription to at least once, to the
// count of what comes again, and to AckSync: what it confirmed never comes again.
func TestSubscriptionUnderRandomFaults(t *testing.T) {
	for seed := range uint64(50) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) { subscribeUnderFaults(t, w, rand.New(rand.NewPCG(seed, 8))) })
		})
	}
}

func subscribeUnderFaults(t *testing.T, w *world, random *rand.Rand) {
	c := w.connect()
	defer closeAll(t, c)
	const n = 300
	w.durable.add(numbered(n)...)
	w.durable.most = 1 + random.IntN(40)
	s := subscribe(t, c, client.Prefetch(1+random.IntN(60)))
	seen := map[message.ID]bool{}
	confirmed := map[message.ID]bool{}
	var inHand []client.Delivery
	for step := 0; w.durable.pending() > 0; step++ {
		if step > 200*n {
			t.Fatalf("%d of %d seen, %d pending", len(seen), n, w.durable.pending())
		}
		switch {
		case random.IntN(80) == 0:
			w.kill("s1")
			w.start("s1")
			w.lead("s1")
		case random.IntN(80) == 0:
			w.durable.change(func() { w.durable.deaf = !w.durable.deaf })
		case random.IntN(50) == 0:
			pass(time.Duration(random.IntN(20)) * time.Millisecond)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		d, err := s.Receive(ctx)
		cancel()
		if err == nil {
			switch {
			case confirmed[d.ID()]:
				t.Fatalf("message %d came again after AckSync", d.ID())
			case seen[d.ID()] && d.DeliveryCount() == 0:
				t.Errorf("message %d came again with count 0", d.ID())
			}
			seen[d.ID()] = true
			inHand = append(inHand, d)
		} else {
			w.durable.change(func() { w.durable.deaf = false })
			if len(inHand) == 0 { // acknowledgements that a deaf leader never took
				w.kill("s1")
				w.start("s1")
				w.lead("s1")
			}
		}
		inHand = settleSome(t, random, inHand, confirmed, err != nil)
	}
	if len(seen) != n {
		t.Errorf("%d of %d messages were delivered", len(seen), n)
	}
}

// settleSome settles some deliveries at random, or all, and returns the others.
func settleSome(t *testing.T, random *rand.Rand, inHand []client.Delivery, confirmed map[message.ID]bool, all bool) []client.Delivery {
	var rest []client.Delivery
	for _, d := range inHand {
		var err error
		switch pick := random.IntN(30); {
		case pick < 2:
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			if d.AckSync(ctx) == nil {
				confirmed[d.ID()] = true
			}
			cancel()
		case pick < 4:
			err = d.Nack()
		case pick < 10 || all:
			err = d.Ack()
		default:
			rest = append(rest, d)
		}
		if err != nil {
			t.Errorf("message %d: %v", d.ID(), err)
		}
	}
	return rest
}
