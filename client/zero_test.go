package client_test

import (
	"context"
	"errors"
	"testing"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/message"
)

func TestZeroDelivery(t *testing.T) {
	var d client.Delivery
	_, decoded := d.Message()
	for _, err := range []error{decoded, d.Ack(), d.AckSync(t.Context()), d.Nack(), d.NackAfter(time.Second)} {
		if !errors.Is(err, client.ErrInvalidArgument) {
			t.Errorf("%v", err)
		}
	}
	if d.ID() != 0 || !d.Stamp().IsZero() || d.Store() != "" || d.Durable() != "" || d.DeliveryCount() != 0 || d.EndedDeliveries() != 0 || d.Body() != nil {
		t.Error("the zero delivery says something")
	}
}

func TestRefusedMessages(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		p, err := c.Publisher(t.Context(), "flights")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Publish(t.Context(), nil); !errors.Is(err, client.ErrInvalidArgument) {
			t.Errorf("nil: %v", err)
		}
		if _, err := p.PublishBatch(t.Context(), []*message.Message{{}, nil}); !errors.Is(err, client.ErrInvalidArgument) {
			t.Errorf("nil in a batch: %v", err)
		}
		large := &message.Message{Body: make([]byte, message.HardMaxMessageSize+1)}
		if err := p.PublishAsync(t.Context(), large).Refused(); !errors.Is(err, client.ErrMessageTooLarge) {
			t.Errorf("too large: %v", err)
		}
		f := p.PublishAsync(t.Context(), &message.Message{})
		if err := f.Refused(); err != nil {
			t.Errorf("a good one: %v", err)
		}
		if _, err := f.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestReasonOutlivesTheDeadline shows that what a server said is told although
// time ended while the next try was on its way.
func TestReasonOutlivesTheDeadline(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		calls := 0
		w.admin = func(string, any) (any, error) {
			if calls++; calls > 3 {
				pass(time.Minute)
			}
			return nil, refuse(perdurepb.Reason_REASON_REALM_FORMING, "")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Admin().GetRealm(ctx, 0); !errors.Is(err, client.ErrRealmForming) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		pass(time.Minute)
	})
}

// TestStatusAsksNobodyLost shows that a server that the first answer calls down
// is not waited for.
func TestStatusAsksNobodyLost(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c, err := client.Connect(t.Context(), "s1", client.WithDialer(w.dial))
		if err != nil {
			t.Fatal(err)
		}
		defer closeAll(t, c)
		w.admin = func(server string, _ any) (any, error) {
			r := statusOf(server)
			for _, s := range r.Servers {
				s.Core = true
			}
			r.Servers[1].Up = false
			return r, nil
		}
		w.freeze("s2")
		began := time.Now()
		s, err := c.Admin().Status(t.Context())
		if err != nil || time.Since(began) > time.Second {
			t.Fatalf("%v after %v", err, time.Since(began))
		}
		if s.Servers[1].Up || s.Clusters[0].Services[1].State != "unknown" {
			t.Errorf("%+v", s)
		}
	})
}
