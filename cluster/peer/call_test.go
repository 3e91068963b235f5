package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	peerpb "github.com/perdure/perdure/api/peer/v1"
)

func TestCalls(t *testing.T) {
	callers := make(chan PeerIdentity, 10)
	a, b := pair(t, func(o *Options) {
		name := o.Name
		o.OnCall = func(_ context.Context, from PeerIdentity, kind uint8, body []byte) ([]byte, error) {
			callers <- from
			switch kind {
			case 1:
				return append([]byte(name+" got "), body...), nil
			case 2:
				return bytes.Repeat([]byte("x"), MaxCall), nil
			default:
				return nil, fmt.Errorf("kind %d is not known", kind)
			}
		}
	})
	ctx := t.Context()
	got, err := a.Call(ctx, 2, 1, []byte("question"))
	if err != nil || string(got) != "s2 got question" {
		t.Fatalf("%q, %v", got, err)
	}
	if from := await(t, callers, "caller"); from.Server != 1 || from.Name != "s1" || !from.Known || from.Incarnation != a.opts.Incarnation {
		t.Fatalf("called by %+v", from)
	}
	if got, err := a.Call(ctx, 2, 1, nil); err != nil || string(got) != "s2 got " {
		t.Fatalf("%q, %v", got, err)
	}
	if got, err := a.Call(ctx, 2, 2, make([]byte, MaxCall)); err != nil || len(got) != MaxCall {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	remote := &RemoteError{}
	if _, err := a.Call(ctx, 2, 3, nil); !errors.As(err, &remote) || remote.Server != "s2" || remote.Text != "kind 3 is not known" {
		t.Fatalf("got %v", err)
	}
	if _, err := a.Call(ctx, 9, 3, nil); !errors.Is(err, ErrUnknownPeer) {
		t.Fatalf("got %v", err)
	}
	if _, err := a.Call(ctx, 2, 1, make([]byte, MaxCall+1)); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("got %v", err)
	}
	_ = b
}

func TestStrangersMayCall(t *testing.T) {
	callers := make(chan PeerIdentity, 10)
	core := start(t, 1, "s1", func(o *Options) {
		o.OnCall = func(_ context.Context, from PeerIdentity, kind uint8, body []byte) ([]byte, error) {
			callers <- from
			return body, nil
		}
	})
	aux := start(t, 0, "aux", func(o *Options) { o.Realm = func() [16]byte { return [16]byte{7} } })
	got, err := aux.CallAddress(t.Context(), core.Addr().String(), 4, []byte("let me in"))
	if err != nil || string(got) != "let me in" {
		t.Fatalf("%q, %v", got, err)
	}
	if from := await(t, callers, "caller"); from.Server != 0 || from.Name != "aux" || from.Known || from.Realm != [16]byte{7} {
		t.Fatalf("called by %+v", from)
	}
	if _, err := aux.CallAddress(t.Context(), core.Addr().String(), 4, make([]byte, maxStrangerCall+1)); err == nil {
		t.Fatal("a stranger's large request was served")
	}
	// Nobody answers calls at aux.
	remote := &RemoteError{}
	if _, err := core.CallAddress(t.Context(), aux.Addr().String(), 4, nil); !errors.As(err, &remote) {
		t.Fatalf("got %v", err)
	}
	// A name that belongs to another server is not believed.
	core.SetPeers(map[uint64]Peer{5: {Name: "s5", Address: "127.0.0.1:1"}})
	if err := aux.SetServer(5); err != nil {
		t.Fatal(err)
	}
	if _, err := aux.CallAddress(t.Context(), core.Addr().String(), 4, nil); !errors.Is(err, ErrIdentity) {
		t.Fatalf("got %v", err)
	}
	other := start(t, 0, "other", func(o *Options) { o.Realm = func() [16]byte { return [16]byte{8} } })
	if _, err := other.CallAddress(t.Context(), aux.Addr().String(), 4, nil); !errors.Is(err, ErrRealm) || !strings.Contains(err.Error(), "aux") {
		t.Fatalf("got %v", err)
	}
}

func TestCallsEnd(t *testing.T) {
	begun, ended := make(chan struct{}, 3), make(chan struct{}, 3)
	change := func(o *Options) {
		o.Limits.Calls = 1
		o.OnCall = func(ctx context.Context, _ PeerIdentity, _ uint8, _ []byte) ([]byte, error) {
			begun <- struct{}{}
			<-ctx.Done()
			ended <- struct{}{}
			return nil, ctx.Err()
		}
	}
	a, b := pair(t, change)
	call := func(ctx context.Context) chan error {
		result := make(chan error, 1)
		go func() {
			_, err := a.Call(ctx, 2, 1, nil)
			result <- err
		}()
		return result
	}
	ctx, cancel := context.WithCancel(t.Context())
	result := call(ctx)
	await(t, begun, "the call")
	if err := await(t, call(t.Context()), "a second call"); !errors.Is(err, ErrBusy) {
		t.Fatalf("got %v", err)
	}
	cancel()
	if err := await(t, result, "the caller"); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	await(t, ended, "the callee to hear of it")

	until(t, "room for a call", func() bool { // the slot is given back a little later
		result = call(t.Context())
		select {
		case <-begun:
			return true
		case <-result:
			return false
		}
	})
	a.Close()
	if err := await(t, result, "the caller"); !errors.Is(err, ErrClosed) {
		t.Fatalf("got %v", err)
	}
	await(t, ended, "the callee to hear of it")
	if _, err := a.Call(t.Context(), 2, 1, nil); err == nil {
		t.Fatal("called after Close")
	}
	_, err := b.CallAddress(t.Context(), a.Addr().String(), 1, nil)
	if !errors.Is(err, ErrUnreachable) {
		t.Fatalf("got %v", err)
	}
}

func TestEmptyRequest(t *testing.T) {
	n := single(t, nil)
	s := connect(t, n)
	s.greet(t, hello(peerpb.ConnectionKind_CONNECTION_KIND_CALL))
	s.send(t, appendFrame(nil, frameRequest, nil))
	s.closed(t)
}
