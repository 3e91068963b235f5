package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
)

// stateChunk is how much of a state file is sent at a time.
const stateChunk = 256 << 10

// Admin connects to the admin service of one server, as any program could. The
// connection is closed when the test ends.
func (f *Fleet) Admin(n *Node) perdurepb.AdminClient {
	f.t.Helper()
	return perdurepb.NewAdminClient(f.Conn(n))
}

// Conn connects to one server; it connects again by itself when that was killed.
func (f *Fleet) Conn(n *Node) *grpc.ClientConn {
	f.t.Helper()
	conn, err := grpc.NewClient(n.Client, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Anywhere calls do for one server after the other until it succeeds, says
// something that no other server and no later try would change, or ctx ends.
func (f *Fleet) Anywhere(ctx context.Context, do func(ctx context.Context, n *Node) error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last error
	for i := 0; ; i++ {
		err := do(ctx, f.Nodes[i%len(f.Nodes)])
		if err == nil || !Passing(err) {
			return err
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), last)
		case <-tick.C:
		}
	}
}

// Passing reports whether an error of a call may be gone elsewhere, or later.
func Passing(err error) bool {
	s := status.Convert(err)
	for _, d := range s.Details() {
		if e, ok := d.(*perdurepb.Error); ok {
			return e.Retryable
		}
	}
	return s.Code() == codes.Unavailable || errors.Is(err, io.ErrUnexpectedEOF)
}

// Save has one server save a state, into out unless it is to keep it.
func (f *Fleet) Save(ctx context.Context, n *Node, m *perdurepb.SaveClusterRequest, out io.Writer) (*perdurepb.StateSaved, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := f.Admin(n).SaveCluster(ctx, m)
	if err != nil {
		return nil, err
	}
	for {
		r, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		case r.GetSaved() != nil:
			return r.GetSaved(), nil
		}
		if _, err := out.Write(r.GetChunk()); err != nil {
			return nil, err
		}
	}
}

// SaveAnywhere saves a state as a file in memory, wherever the cluster's leader is.
func (f *Fleet) SaveAnywhere(ctx context.Context, m *perdurepb.SaveClusterRequest) ([]byte, *perdurepb.StateSaved, error) {
	var out bytes.Buffer
	var saved *perdurepb.StateSaved
	err := f.Anywhere(ctx, func(ctx context.Context, n *Node) (err error) {
		out.Reset()
		saved, err = f.Save(ctx, n, m, &out)
		return err
	})
	return out.Bytes(), saved, err
}

// Load has one server load a state: the file is sent twice, as is asked for.
func (f *Fleet) Load(ctx context.Context, n *Node, open *perdurepb.LoadOpen, file io.ReadSeeker) (*perdurepb.StateLoaded, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := f.Admin(n).LoadCluster(ctx)
	if err != nil {
		return nil, err
	}
	if err := stream.Send(&perdurepb.LoadClusterRequest{Open: open}); err != nil {
		_, err = stream.Recv() // has the reason
		return nil, err
	}
	var sent chan struct{}
	send := func() {
		sent = make(chan struct{})
		go sendState(stream, file, sent) // until the server has it all, or the call ends
	}
	send()
	defer func() {
		cancel()
		<-sent // it reads the file
	}()
	for {
		r, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		case r.GetLoaded() != nil:
			return r.GetLoaded(), nil
		case r.GetVerified() != nil:
			<-sent
			if _, err := file.Seek(0, io.SeekStart); err != nil {
				return nil, fmt.Errorf("harness: %w", err)
			}
			send()
		}
	}
}

func sendState(stream grpc.BidiStreamingClient[perdurepb.LoadClusterRequest, perdurepb.LoadClusterResponse], file io.Reader, sent chan<- struct{}) {
	defer close(sent)
	buf := make([]byte, stateChunk)
	for {
		n, err := io.ReadFull(file, buf)
		end := err != nil
		if stream.Send(&perdurepb.LoadClusterRequest{Chunk: buf[:n], End: end}) != nil || end {
			return // receiving says why
		}
	}
}

// LoadAnywhere loads a file, wherever the cluster's leader is, and goes on where
// another leader comes.
func (f *Fleet) LoadAnywhere(ctx context.Context, open *perdurepb.LoadOpen, file []byte) (loaded *perdurepb.StateLoaded, err error) {
	err = f.Anywhere(ctx, func(ctx context.Context, n *Node) error {
		loaded, err = f.Load(ctx, n, open, bytes.NewReader(file))
		return err
	})
	return loaded, err
}
