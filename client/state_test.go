package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/client"
)

func (s *fakeServer) state(ctx context.Context, stream any) error {
	if err := s.leads(ctx); err != nil {
		return err
	}
	s.w.mu.Lock()
	f := s.w.onState
	s.w.mu.Unlock()
	return f(s.address, stream)
}

// saveStream and loadStream are the servers' sides of calls.
type (
	saveStream = grpc.ServerStreamingServer[perdurepb.SaveClusterResponse]
	loadStream = grpc.BidiStreamingServer[perdurepb.LoadClusterRequest, perdurepb.LoadClusterResponse]
	readStream = grpc.ServerStreamingServer[perdurepb.ReadStateResponse]
)

func (s *fakeServer) SaveCluster(_ *perdurepb.SaveClusterRequest, stream saveStream) error {
	return s.state(stream.Context(), stream)
}

func (s *fakeServer) LoadCluster(stream loadStream) error { return s.state(stream.Context(), stream) }

func (s *fakeServer) ReadState(m *perdurepb.ReadStateRequest, stream readStream) error {
	if err := s.hang(stream.Context()); err != nil {
		return err
	}
	if s.address != "s2" || m.Name != "a.state" {
		return refuse(perdurepb.Reason_REASON_NO_SUCH_FILE, "")
	}
	for _, chunk := range []string{"one", "", "two"} {
		if err := stream.Send(&perdurepb.ReadStateResponse{Chunk: []byte(chunk)}); err != nil {
			return err
		}
	}
	return nil
}

func (s *fakeServer) MarkLoaded(_ context.Context, m *perdurepb.MarkLoadedRequest) (*perdurepb.MarkLoadedResponse, error) {
	return &perdurepb.MarkLoadedResponse{Name: s.address + m.Name}, nil
}

// takeFile receives a file, to its end or until so many bytes came.
func takeFile(stream loadStream, most int) (file []byte, err error) {
	for len(file) < most {
		m, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		if file = append(file, m.Chunk...); m.End {
			break
		}
	}
	return file, nil
}

// tooMuch is more than any file of a test.
const tooMuch = 1 << 30

// TestLoadGoesOn loses the leader while a state is loaded. The next one is told which
// load goes on, and gets the file as often as it wants it.
func TestLoadGoesOn(t *testing.T) {
	file := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	for how, lose := range map[string]func(*world){
		"killed": func(w *world) { w.kill("s1") },
		"frozen": func(w *world) { w.freeze("s1") },
	} {
		t.Run(how, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				c := w.connect(client.WithRetry(5 * time.Second))
				defer closeAll(t, c)
				var opens []*perdurepb.LoadOpen
				w.onState = func(server string, call any) error {
					stream := call.(loadStream)
					first, err := stream.Recv()
					if err != nil {
						return err
					}
					opens = append(opens, first.Open)
					got, err := takeFile(stream, tooMuch)
					if err != nil || !bytes.Equal(got, file) {
						return fmt.Errorf("%d bytes: %w", len(got), err)
					}
					if err := stream.Send(&perdurepb.LoadClusterResponse{Verified: &perdurepb.LoadVerified{Load: 7, Manifest: []byte("{}")}}); err != nil {
						return err
					}
					if server == "s1" {
						if _, err := takeFile(stream, len(file)/2); err != nil {
							return err
						}
						go func() {
							lose(w)
							w.lead("s3")
						}()
						<-stream.Context().Done()
						return stream.Context().Err()
					}
					for range 20 { // it takes long, and says so
						pass(time.Second)
						if err := stream.Send(&perdurepb.LoadClusterResponse{Progress: &perdurepb.StateProgress{Bytes: 5, Messages: 6, TotalMessages: 7}}); err != nil {
							return err
						}
					}
					if got, err = takeFile(stream, tooMuch); err != nil || !bytes.Equal(got, file) {
						return fmt.Errorf("the second time %d bytes: %w", len(got), err)
					}
					return stream.Send(&perdurepb.LoadClusterResponse{Loaded: &perdurepb.StateLoaded{
						StateHash: "hash", Bytes: 1, Messages: 2, Stores: []*perdurepb.StoreLoaded{{Name: "a", From: "b", Messages: 3, Durables: 4, Pending: 5}},
					}})
				}
				opened, closed := 0, 0
				var told []client.StateProgress
				l, err := c.Admin().LoadCluster(t.Context(), "main", client.LoadRequest{
					Open: func() (io.ReadCloser, error) {
						opened++
						return closing{bytes.NewReader(file), &closed}, nil
					},
					Replace: true, Rename: map[string]string{"b": "a"},
					Progress: func(p client.StateProgress) { told = append(told, p) },
				})
				if err != nil {
					t.Fatal(err)
				}
				want := client.LoadedState{StateHash: "hash", Bytes: 1, Messages: 2, Manifest: []byte("{}"), Stores: []client.LoadedStore{{Name: "a", From: "b", Messages: 3, Durables: 4, Pending: 5}}}
				if fmt.Sprint(*l) != fmt.Sprint(want) {
					t.Errorf("loaded %+v, want %+v", *l, want)
				}
				last := opens[len(opens)-1]
				if len(opens) != 2 || opens[0].Load != 0 || last.Load != 7 || !last.Replace || last.Rename["b"] != "a" || last.Cluster != "main" {
					t.Errorf("opened %v", opens)
				}
				if opened < 4 || closed != opened { // also for who does not lead
					t.Errorf("the file was opened %d times and closed %d times", opened, closed)
				}
				if len(told) != 20 || !told[0].Loading || told[0].Messages != 6 {
					t.Errorf("progress %v", told)
				}
			})
		})
	}
}

// TestLoadEnds: whether a load was committed is known where a server says so, or
// refuses it; and where the file was not sent a second time.
func TestLoadEnds(t *testing.T) {
	for name, tt := range map[string]struct {
		verified, refused bool
		want              error // nil: that nobody serves it, whoever says so last
		unknown           bool
	}{
		"nobody is left":                {true, false, nil, true},
		"the next one refuses it":       {true, true, client.ErrLoadRefused, false},
		"nobody is left to verify it":   {false, false, nil, false},
		"the next one refuses the file": {false, true, client.ErrLoadRefused, false},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				c := w.connect(client.WithRetry(2 * time.Second))
				defer closeAll(t, c)
				w.onState = func(server string, call any) error {
					stream := call.(loadStream)
					if _, err := takeFile(stream, tooMuch); err != nil {
						return err
					}
					if server != "s1" {
						return refuse(perdurepb.Reason_REASON_LOAD_REFUSED, "")
					}
					if tt.verified {
						if err := stream.Send(&perdurepb.LoadClusterResponse{Verified: &perdurepb.LoadVerified{Load: 7}}); err != nil {
							return err
						}
						if _, err := takeFile(stream, tooMuch); err != nil {
							return err
						}
					}
					go func() {
						if w.kill("s1"); tt.refused {
							w.lead("s2")
							return
						}
						w.kill("s2")
						w.kill("s3")
					}()
					<-stream.Context().Done()
					return stream.Context().Err()
				}
				_, err := c.Admin().LoadCluster(t.Context(), "main", client.LoadRequest{Open: func() (io.ReadCloser, error) {
					return io.NopCloser(strings.NewReader("x")), nil
				}})
				if err == nil || tt.want != nil && !errors.Is(err, tt.want) || errors.Is(err, client.ErrOutcomeUnknown) != tt.unknown {
					t.Errorf("%v; want %v, unknown %v", err, tt.want, tt.unknown)
				}
			})
		})
	}
}

// closing counts how often it is closed.
type closing struct {
	io.Reader
	closed *int
}

func (c closing) Close() error {
	*c.closed++
	return nil
}

// TestLoadRefused: what a server says about a state is final, and so is what is wrong
// with a file here.
func TestLoadRefused(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect(client.WithRetry(time.Minute))
		defer closeAll(t, c)
		var calls atomic.Int32
		w.onState = func(_ string, call any) error {
			calls.Add(1)
			if _, err := takeFile(call.(loadStream), tooMuch); err != nil {
				return err
			}
			return refuse(perdurepb.Reason_REASON_STATE_ALTERED, "")
		}
		load := func(open func() (io.ReadCloser, error)) error {
			calls.Store(0)
			_, err := c.Admin().LoadCluster(t.Context(), "main", client.LoadRequest{Open: open})
			return err
		}
		if err := load(func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("x")), nil }); !errors.Is(err, client.ErrStateAltered) || calls.Load() != 1 {
			t.Errorf("%v after %d calls", err, calls.Load())
		}
		canary := errors.New("canary")
		for what, open := range map[string]func() (io.ReadCloser, error){
			"open": func() (io.ReadCloser, error) { return nil, canary },
			"read": func() (io.ReadCloser, error) {
				return io.NopCloser(io.MultiReader(strings.NewReader("x"), failing{canary})), nil
			},
		} {
			if err := load(open); !errors.Is(err, client.ErrFileFailed) || !errors.Is(err, canary) || calls.Load() > 1 {
				t.Errorf("%s: %v after %d calls", what, err, calls.Load())
			}
		}
		w.mu.Lock() // the server may still have a call that the client gave up
		w.onState = func(_ string, call any) error {
			m, err := call.(loadStream).Recv()
			if err != nil || !m.Open.Abort || m.Open.Cluster != "main" {
				return fmt.Errorf("%v: %w", m, err)
			}
			return call.(loadStream).Send(&perdurepb.LoadClusterResponse{Loaded: &perdurepb.StateLoaded{}})
		}
		w.mu.Unlock()
		if err := c.Admin().AbortLoad(t.Context(), "main"); err != nil {
			t.Error(err)
		}
	})
}

// failing is a file that cannot be read.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestSaveBeginsAnew loses the server while it sends a file.
func TestSaveBeginsAnew(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		came := make(chan struct{})
		w.onState = func(server string, call any) error {
			stream := call.(saveStream)
			for _, chunk := range []string{server, "b"} {
				if err := stream.Send(&perdurepb.SaveClusterResponse{Chunk: []byte(chunk), Progress: &perdurepb.StateProgress{Bytes: 3}}); err != nil {
					return err
				}
			}
			if server == "s1" {
				go func() {
					<-came
					w.kill("s1")
					w.lead("s2")
				}()
				<-stream.Context().Done()
				return stream.Context().Err()
			}
			return stream.Send(&perdurepb.SaveClusterResponse{Saved: &perdurepb.StateSaved{Server: server, Service: "main-2", File: "f", Bytes: 3, Sha256: []byte("sum"), Manifest: []byte("{}")}})
		}
		files := []*bytes.Buffer{}
		saved, err := c.Admin().SaveCluster(t.Context(), "main", client.SaveRequest{Out: func() (io.Writer, error) {
			if files = append(files, new(bytes.Buffer)); len(files) == 1 {
				close(came)
			}
			return files[len(files)-1], nil
		}})
		if err != nil || len(files) != 2 || files[1].String() != "s2b" || saved.Server != "s2" || saved.Service != "main-2" || saved.Bytes != 3 || string(saved.SHA256) != "sum" {
			t.Errorf("saved %+v into %d files (%v)", saved, len(files), err)
		}
		canary := errors.New("canary")
		_, err = c.Admin().SaveCluster(t.Context(), "main", client.SaveRequest{Out: func() (io.Writer, error) { return nil, canary }})
		if !errors.Is(err, client.ErrFileFailed) || !errors.Is(err, canary) {
			t.Errorf("%v", err)
		}
	})
}

func TestStateFilesOfServers(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		w.admin = func(server string, _ any) (any, error) {
			r := &perdurepb.StatusResponse{Server: server}
			for _, a := range []string{"s1", "s2", "s3"} {
				r.Servers = append(r.Servers, &perdurepb.ServerStatus{Name: "name-" + a, Client: a})
			}
			return r, nil
		}
		read := func(server, name string) (string, error) {
			r, err := c.Admin().ReadState(t.Context(), server, name)
			if err != nil {
				return "", err
			}
			b, err := io.ReadAll(r)
			return string(b), errors.Join(err, r.Close())
		}
		if got, err := read("name-s2", "a.state"); err != nil || got != "onetwo" {
			t.Errorf("read %q (%v)", got, err)
		}
		if _, err := read("name-s1", "a.state"); !errors.Is(err, client.ErrNoSuchFile) {
			t.Error(err)
		}
		if _, err := read("s2", "a.state"); !errors.Is(err, client.ErrInvalidArgument) || !strings.Contains(err.Error(), "name-s1, name-s2, name-s3") {
			t.Error(err)
		}
		if name, err := c.Admin().MarkLoaded(t.Context(), "name-s3", "x"); err != nil || name != "s3x" {
			t.Errorf("%q (%v)", name, err)
		}
		if _, err := c.Admin().MarkLoaded(t.Context(), "s3", "x"); !errors.Is(err, client.ErrInvalidArgument) {
			t.Error(err)
		}
	})
}
