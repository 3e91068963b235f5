package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
)

// stateSilence is how long a server that saves or loads may say nothing before it
// counts as lost. It says something every second.
const stateSilence = 8 * time.Second

// StateProgress is how far a state file is written or read.
type StateProgress struct {
	Bytes         uint64 // of the file
	Messages      uint64
	TotalMessages uint64 // that will be; 0 where that is not known yet
	// Loading says that the file was found to be right and is being loaded; before, it
	// is being checked.
	Loading bool
}

// SaveRequest says what SaveCluster saves, and where to.
type SaveRequest struct {
	Service string   // whose state; empty: the leader's
	Stores  []string // none: all
	// Online saves a cluster that goes on meanwhile; otherwise it must be suspended.
	Online bool
	// Out takes the file. It is called before the first byte comes, and again, for a
	// file that begins anew, if a server is lost. nil: the server writes the file
	// into its own state directory.
	Out func() (io.Writer, error)
	// Applied is an entry that the service must have applied.
	Applied uint64
	// Progress, if not nil, is told every second or so.
	Progress func(StateProgress)
}

// SavedState is what SaveCluster has saved.
type SavedState struct {
	Server   string
	Service  string
	File     string // its name in the server's state directory, empty if it was sent
	Bytes    uint64
	SHA256   []byte
	Manifest []byte // JSON
}

// SaveCluster saves what a service of a cluster has into a state file. A cluster
// that is not suspended is ErrNotSuspended, unless r is online.
func (a *Admin) SaveCluster(ctx context.Context, cluster string, r SaveRequest) (*SavedState, error) {
	request := &perdurepb.SaveClusterRequest{
		Cluster: cluster, Service: r.Service, Stores: r.Stores, Online: r.Online, ToServer: r.Out == nil, Applied: r.Applied,
	}
	start := time.Now()
	return askSince(ctx, a.c, "save cluster", reads, &start, func(ctx context.Context, admin perdurepb.AdminClient) (*SavedState, error) {
		ctx, heard, end := listen(ctx, &start)
		defer end()
		stream, err := admin.SaveCluster(ctx, request)
		if err != nil {
			return nil, err
		}
		var out io.Writer
		for {
			m, err := stream.Recv()
			if err != nil {
				return nil, broken(ctx, err)
			}
			heard()
			if p := m.GetProgress(); p != nil && r.Progress != nil {
				r.Progress(StateProgress{Bytes: p.Bytes, Messages: p.Messages, TotalMessages: p.TotalMessages})
			}
			if len(m.GetChunk()) > 0 && r.Out != nil {
				if out == nil {
					if out, err = r.Out(); err != nil {
						return nil, ownFile(err)
					}
				}
				if _, err := out.Write(m.Chunk); err != nil {
					return nil, ownFile(err)
				}
			}
			if s := m.GetSaved(); s != nil {
				return &SavedState{Server: s.Server, Service: s.Service, File: s.File, Bytes: s.Bytes, SHA256: s.Sha256, Manifest: s.Manifest}, nil
			}
		}
	})
}

// listen watches over a stream whose server is never silent for long: heard notes
// that it said something, and moves start on.
func listen(ctx context.Context, start *time.Time) (_ context.Context, heard, end func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(stateSilence, func() {
		cancel(&Error{Reason: "UNAVAILABLE", Retryable: true, Message: fmt.Sprintf("the server was silent for %v", stateSilence)})
	})
	heard = func() {
		timer.Reset(stateSilence)
		*start = time.Now()
	}
	return ctx, heard, func() {
		timer.Stop()
		cancel(nil)
	}
}

// broken says why a stream ended with err: for a cancelled one, who cancelled it.
func broken(ctx context.Context, err error) error {
	var own *Error
	if cause := context.Cause(ctx); errors.As(cause, &own) {
		return cause
	}
	if errors.Is(err, io.EOF) {
		return &Error{Reason: "UNAVAILABLE", Retryable: true, Message: "the stream ended"}
	}
	return err
}

// ownFile is an error of a file on this side, for which no other server knows help.
func ownFile(err error) error {
	var own *Error
	if !errors.As(err, &own) {
		err = refusal(ErrFileFailed, err, "%v", err)
	}
	return &ownSide{err}
}

// ReadState begins to read a file of a server's state directory, by its bare name.
func (a *Admin) ReadState(ctx context.Context, server, name string) (io.ReadCloser, error) {
	admin, err := a.at(ctx, server)
	if err != nil {
		return nil, during(err, "read state")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stream, err := admin.ReadState(ctx, &perdurepb.ReadStateRequest{Name: name})
	if err != nil {
		cancel(nil)
		return nil, during(fromStatus(server, err), "read state")
	}
	return &stateReader{ctx: ctx, server: server, silence: a.c.patience(), receive: stream.Recv, cancel: cancel}, nil
}

// patience is how long a server may say nothing that is asked for what it has at hand.
func (c *Client) patience() time.Duration {
	if c.cfg.retry > 0 {
		return min(c.cfg.retry, stateSilence)
	}
	return stateSilence
}

// stateReader reads what a server sends.
type stateReader struct {
	ctx     context.Context
	server  string
	silence time.Duration
	receive func() (*perdurepb.ReadStateResponse, error)
	cancel  context.CancelCauseFunc
	chunk   []byte
}

// Read implements [io.Reader].
func (r *stateReader) Read(b []byte) (int, error) {
	for len(r.chunk) == 0 {
		lost := time.AfterFunc(r.silence, func() {
			r.cancel(unanswered(r.server, fmt.Errorf("it was silent for %v", r.silence)))
		})
		m, err := r.receive()
		lost.Stop()
		if errors.Is(err, io.EOF) {
			return 0, io.EOF
		} else if err != nil {
			err = fromStatus(r.server, broken(r.ctx, err))
			if errors.Is(err, ErrUnavailable) && !errors.As(err, new(*noAnswer)) {
				err = unanswered(r.server, err)
			}
			return 0, during(err, "read state")
		}
		r.chunk = m.GetChunk()
	}
	n := copy(b, r.chunk)
	r.chunk = r.chunk[n:]
	return n, nil
}

// Close implements [io.Closer].
func (r *stateReader) Close() error {
	r.cancel(nil)
	return nil
}

// MarkLoaded renames a file of a server's state directory, which was loaded, and
// returns its new name.
func (a *Admin) MarkLoaded(ctx context.Context, server, name string) (string, error) {
	admin, err := a.at(ctx, server)
	if err != nil {
		return "", during(err, "mark loaded")
	}
	ctx, cancel := context.WithTimeout(ctx, stateSilence)
	defer cancel()
	r, err := admin.MarkLoaded(ctx, &perdurepb.MarkLoadedRequest{Name: name})
	if err != nil {
		return "", during(fromStatus(server, err), "mark loaded")
	}
	return r.GetName(), nil
}

// at finds a server by its name, and waits for it for as long as retries may take.
func (a *Admin) at(ctx context.Context, server string) (perdurepb.AdminClient, error) {
	start := time.Now()
	r, err := ask(ctx, a.c, "status", reads, func(ctx context.Context, admin perdurepb.AdminClient) (*perdurepb.StatusResponse, error) {
		ctx, cancel := context.WithTimeout(ctx, statusTimeout)
		defer cancel()
		return admin.Status(ctx, &perdurepb.StatusRequest{ProcessOnly: true})
	})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, s := range r.Servers {
		names = append(names, s.Name)
	}
	i := slices.Index(names, server)
	if i < 0 {
		return nil, refusal(ErrInvalidArgument, nil, "the realm has no server %q; there are %s", server, strings.Join(names, ", "))
	}
	address := r.Servers[i].Client
	cc, err := a.c.conn(address)
	if err != nil {
		return nil, err
	}
	for wait := (pauses{}); ; {
		err := a.c.connected(ctx, address, cc)
		if err == nil {
			return perdurepb.NewAdminClient(cc), nil
		}
		err = unanswered(server, err)
		if over := a.c.cfg.retry != RetryForever && time.Since(start) >= a.c.cfg.retry; over {
			return nil, err
		}
		if ctx.Err() != nil || !sleep(ctx, wait.next()) {
			return nil, endOf(ctx, err)
		}
	}
}
