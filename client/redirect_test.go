package client_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/client"
)

// TestRedirectedToTheDead: the trouble is that the server to ask does not answer, not
// that others sent the client there.
func TestRedirectedToTheDead(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect(client.WithRetry(2 * time.Second))
		defer closeAll(t, c)
		w.kill("s3")
		w.lead("s3")
		_, err := c.Admin().SaveCluster(t.Context(), "main", client.SaveRequest{Service: "main-3"})
		var e *client.Error
		if !errors.As(err, &e) || e.Reason != "UNAVAILABLE" || !e.Retryable || !strings.Contains(err.Error(), "server s3 does not answer") || errors.Is(err, client.ErrNotLeader) {
			t.Errorf("%v", err)
		}
		w.with(func() { w.leader = "" })
		if _, err := c.Admin().SaveCluster(t.Context(), "main", client.SaveRequest{}); !errors.Is(err, client.ErrNoLeader) {
			t.Errorf("without a leader: %v", err)
		}
	})
}

// TestInterruptedAfterRedirect: who was sent on, and works, is not in trouble when the
// caller goes.
func TestInterruptedAfterRedirect(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect(client.WithRetry(time.Minute))
		defer closeAll(t, c)
		w.onState = func(_ string, call any) error {
			return call.(saveStream).Send(&perdurepb.SaveClusterResponse{Saved: &perdurepb.StateSaved{}})
		}
		if _, err := c.Admin().SaveCluster(t.Context(), "main", client.SaveRequest{}); err != nil {
			t.Fatal(err)
		}
		w.lead("s3") // s1 is asked first
		ctx, cancel := context.WithCancelCause(t.Context())
		w.onState = func(_ string, call any) error {
			stream := call.(saveStream)
			if err := stream.Send(&perdurepb.SaveClusterResponse{Progress: &perdurepb.StateProgress{}}); err != nil {
				return err
			}
			cancel(context.Canceled)
			<-stream.Context().Done()
			return stream.Context().Err()
		}
		_, err := c.Admin().SaveCluster(ctx, "main", client.SaveRequest{})
		if !errors.Is(err, context.Canceled) || errors.As(err, new(*client.Error)) {
			t.Errorf("%v", err)
		}
	})
}

// TestLoadFromTheDead: a load ends when the server with the file does not answer,
// however much the one that is to load it has to say.
func TestLoadFromTheDead(t *testing.T) {
	for how, lose := range map[string]func(*world){
		"killed": func(w *world) { w.kill("s2") },
		"frozen": func(w *world) { w.freeze("s2") },
	} {
		t.Run(how, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				c := w.connect(client.WithRetry(3 * time.Second))
				defer closeAll(t, c)
				w.admin = func(server string, _ any) (any, error) {
					return &perdurepb.StatusResponse{Server: server, Servers: []*perdurepb.ServerStatus{{Name: "name-s2", Client: "s2"}}}, nil
				}
				w.onState = func(_ string, call any) error {
					for {
						if err := call.(loadStream).Send(&perdurepb.LoadClusterResponse{Progress: &perdurepb.StateProgress{}}); err != nil {
							return err
						}
						pass(time.Second)
					}
				}
				lose(w)
				_, err := c.Admin().LoadCluster(t.Context(), "main", client.LoadRequest{Open: func() (io.ReadCloser, error) {
					return c.Admin().ReadState(t.Context(), "name-s2", "a.state")
				}})
				if !errors.Is(err, client.ErrUnavailable) || !strings.Contains(err.Error(), "server name-s2 does not answer") || errors.Is(err, client.ErrOutcomeUnknown) {
					t.Errorf("%v", err)
				}
			})
		})
	}
}
