package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
)

// Admin reads and changes the realm, and suspends, saves and loads clusters. Any server answers; what
// only a leader can do is sent there. What may succeed later, such as while a
// leader is elected, is tried again for the client's retry duration and as long
// as the context lasts.
type Admin struct{ c *Client }

// Admin returns the administrative side of the client.
func (c *Client) Admin() *Admin { return &Admin{c} }

// Realm is a revision of the realm definition.
type Realm struct {
	Revision  uint64 `json:"revision"`
	Document  []byte `json:"document"`
	AppliedAt string `json:"applied_at"`
}

// Change is one difference between two definitions.
type Change struct {
	Path     string `json:"path"`
	Action   string `json:"action"` // create, update or delete
	Detail   string `json:"detail"`
	Destroys bool   `json:"destroys"` // stored messages are lost
}

// Plan is what applying a definition would do, or did.
type Plan struct {
	// Revision that the plan starts from, or that was created.
	Revision uint64    `json:"revision"`
	Changes  []Change  `json:"changes"`
	Warnings []Problem `json:"warnings"`
}

// GetRealm returns a revision of the definition; 0 is the newest.
func (a *Admin) GetRealm(ctx context.Context, revision uint64) (*Realm, error) {
	r, err := ask(ctx, a.c, "get realm", reads, func(ctx context.Context, admin perdurepb.AdminClient) (*perdurepb.GetRealmResponse, error) {
		return admin.GetRealm(ctx, &perdurepb.GetRealmRequest{Revision: revision})
	})
	if err != nil {
		return nil, err
	}
	return &Realm{Revision: r.Revision, Document: r.Document, AppliedAt: r.AppliedAt}, nil
}

// PlanRealm says what applying a definition would change. A definition that is
// wrong is ErrRealmInvalid; the Error's Problems list everything. file is named
// in messages.
func (a *Admin) PlanRealm(ctx context.Context, document []byte, file string) (*Plan, error) {
	r, err := ask(ctx, a.c, "plan realm", reads, func(ctx context.Context, admin perdurepb.AdminClient) (*perdurepb.PlanRealmResponse, error) {
		return admin.PlanRealm(ctx, &perdurepb.PlanRealmRequest{Document: document, File: file})
	})
	if err != nil {
		return nil, err
	}
	return &Plan{Revision: r.Revision, Changes: changesOf(r.Changes), Warnings: problemsOf(r.Warnings)}, nil
}

// ApplyOption configures ApplyRealm.
type ApplyOption interface {
	applyTo(*perdurepb.ApplyRealmRequest)
}

type applyOption func(*perdurepb.ApplyRealmRequest)

func (f applyOption) applyTo(r *perdurepb.ApplyRealmRequest) { f(r) }

// IfRevision applies only if the newest revision is the given one, else
// ErrRevisionConflict. 0 is: only if none was applied yet.
func IfRevision(revision uint64) ApplyOption {
	return applyOption(func(r *perdurepb.ApplyRealmRequest) { r.Check, r.ExpectedRevision = true, revision })
}

// NoWait returns when the realm is changed, without waiting until every cluster
// has followed.
func NoWait() ApplyOption {
	return applyOption(func(r *perdurepb.ApplyRealmRequest) { r.NoWait = true })
}

// ApplyRealm makes a definition the realm's, and returns when every affected
// cluster has applied it. If the connection breaks meanwhile it is sent again,
// which changes nothing more; with IfRevision the error is ErrOutcomeUnknown.
func (a *Admin) ApplyRealm(ctx context.Context, document []byte, file string, opts ...ApplyOption) (*Plan, error) {
	request := &perdurepb.ApplyRealmRequest{Document: document, File: file}
	for _, o := range opts {
		o.applyTo(request)
	}
	does := repeats
	if request.Check {
		does = once
	}
	r, err := ask(ctx, a.c, "apply realm", does, func(ctx context.Context, admin perdurepb.AdminClient) (*perdurepb.ApplyRealmResponse, error) {
		return admin.ApplyRealm(ctx, request)
	})
	if err != nil {
		return nil, err
	}
	return &Plan{Revision: r.Revision, Changes: changesOf(r.Changes), Warnings: problemsOf(r.Warnings)}, nil
}

// Suspension is what came of suspending a cluster.
type Suspension struct {
	// Recalled is how many messages were taken back from subscribers that had not
	// acknowledged them when the grace was over. These deliveries do not count.
	Recalled uint64 `json:"recalled"`
}

// SuspendCluster suspends a cluster: it refuses with ErrSuspended what publishers
// and new subscribers want, delivers nothing and forgets nothing, until it is
// resumed. It returns when everything that was delivered before is acknowledged or
// taken back, which takes up to the cluster's suspend_grace. Again, it does no harm.
func (a *Admin) SuspendCluster(ctx context.Context, cluster string) (*Suspension, error) {
	r, err := ask(ctx, a.c, "suspend cluster", repeats, func(ctx context.Context, admin perdurepb.AdminClient) (*perdurepb.SuspendClusterResponse, error) {
		return admin.SuspendCluster(ctx, &perdurepb.SuspendClusterRequest{Cluster: cluster})
	})
	if err != nil {
		return nil, err
	}
	return &Suspension{Recalled: r.Recalled}, nil
}

// ResumeCluster undoes SuspendCluster. Who waits goes on by itself.
func (a *Admin) ResumeCluster(ctx context.Context, cluster string) error {
	_, err := ask(ctx, a.c, "resume cluster", repeats, func(ctx context.Context, admin perdurepb.AdminClient) (*perdurepb.ResumeClusterResponse, error) {
		return admin.ResumeCluster(ctx, &perdurepb.ResumeClusterRequest{Cluster: cluster})
	})
	return err
}

// StopServer makes a server stop as SIGTERM does: it gives away what it leads, and
// ends. It returns when the server begins to.
func (a *Admin) StopServer(ctx context.Context, server string) error {
	_, err := ask(ctx, a.c, "stop server", repeats, func(ctx context.Context, admin perdurepb.AdminClient) (*perdurepb.StopServerResponse, error) {
		return admin.StopServer(ctx, &perdurepb.StopServerRequest{Server: server})
	})
	return err
}

func changesOf(pbs []*perdurepb.Change) []Change {
	var changes []Change
	for _, c := range pbs {
		changes = append(changes, Change{Path: c.Path, Action: c.Action, Detail: c.Detail, Destroys: c.Destroys})
	}
	return changes
}

// effect says what a call does to the realm, and so what to say when nobody
// knows whether it was carried out.
type effect uint8

const (
	reads   effect = iota // may be repeated, and has no outcome
	repeats               // changes, but may be repeated
	once                  // changes, and must not be repeated
)

// ask calls servers until one gives an answer that another try cannot change.
// Hints are followed at once. A change that may have been carried out although
// no answer came ends as ErrOutcomeUnknown.
func ask[R any](ctx context.Context, c *Client, what string, does effect, call func(context.Context, perdurepb.AdminClient) (R, error)) (R, error) {
	start := time.Now()
	return askSince(ctx, c, what, does, &start, call)
}

// askSince is ask for calls that take long: they move on the time from which on
// retries count.
func askSince[R any](ctx context.Context, c *Client, what string, does effect, start *time.Time, call func(context.Context, perdurepb.AdminClient) (R, error)) (R, error) {
	var none R
	var wait pauses
	queue := c.inOrder()
	doubtful := false
	var before error // what the last round ended with
	fail := func(err error) (R, error) {
		if doubtful {
			err = unknown(err)
		}
		return none, during(err, "%s", what)
	}
	for {
		round := askRound{silent: map[string]error{}, named: map[string]*Leader{}}
		for len(queue) > 0 {
			address := queue[0]
			queue = queue[1:]
			if round.silent[address] != nil {
				continue
			}
			r, sent, err := askAt(ctx, c, address, call)
			if err == nil {
				c.prefer(address)
				return r, nil
			}
			if does != reads && sent && (ctx.Err() != nil || errors.Is(err, ErrUnavailable) || errors.Is(err, ErrOutcomeUnknown)) {
				doubtful = true
			}
			switch {
			case ctx.Err() != nil:
				return fail(endOf(ctx, telling(err, telling(round.trouble, before))))
			case !isRetryable(err), doubtful && does == once:
				return fail(err)
			}
			if hint := round.failed(address, err); hint != "" {
				queue = slices.Insert(queue, 0, hint)
			}
		}
		queue = c.inOrder()
		pause := wait.next()
		if c.cfg.retry != RetryForever {
			left := c.cfg.retry - time.Since(*start)
			if left <= 0 {
				return fail(round.trouble)
			}
			pause = min(pause, left)
		}
		if !sleep(ctx, pause) {
			return fail(endOf(ctx, round.trouble))
		}
		before = round.trouble
	}
}

// askRound is what came of asking every server once.
type askRound struct {
	hints   int
	named   map[string]*Leader // who to ask, as servers said
	silent  map[string]error   // servers that could not be reached
	trouble error              // the most telling
}

// maxHints bounds the hints that are followed in a round.
const maxHints = 3

// failed notes that a server failed in a way that another may not, and returns who to
// ask next, if that is known. That somebody else is to be asked is no trouble: what
// comes of it may be.
func (r *askRound) failed(address string, err error) (next string) {
	if errors.Is(err, ErrUnavailable) {
		r.silent[address] = err
		r.note(err, r.named[address])
		return ""
	}
	var e *Error
	hint := leaderHint(err)
	if hint == "" || hint == address || !errors.As(err, &e) {
		r.note(err, nil)
		return ""
	}
	r.named[hint] = e.Leader
	switch silent := r.silent[hint]; {
	case silent != nil:
		r.note(silent, e.Leader)
		return ""
	case r.hints >= maxHints:
		r.note(err, nil)
		return ""
	}
	r.hints++
	return hint
}

// note keeps the most telling error: what a server answered, then that the one which
// is to be asked does not answer, then that some other does not.
func (r *askRound) note(err error, named *Leader) {
	if named != nil && named.Server != "" {
		err = unanswered(named.Server, err)
	}
	var kept *noAnswer
	if r.trouble == nil || errors.Is(r.trouble, ErrUnavailable) && (named != nil || !errors.Is(err, ErrUnavailable)) && !(errors.As(r.trouble, &kept) && errors.Is(err, ErrUnavailable)) {
		r.trouble = err
	}
}

// noAnswer is the cause of an *Error about a server that is to be asked and does not
// answer.
type noAnswer struct{ why error }

func (e *noAnswer) Error() string { return e.why.Error() }
func (e *noAnswer) Unwrap() error { return e.why }

// unanswered names the server that could not be reached.
func unanswered(server string, why error) error {
	text := why.Error()
	var e *Error
	if errors.As(why, &e) {
		text = e.Message
	}
	return &Error{
		Reason: "UNAVAILABLE", Retryable: true, cause: &noAnswer{why},
		Message: fmt.Sprintf("server %s does not answer: %s", server, text),
	}
}

// askAt calls one server. sent is false if the request has surely not reached it.
func askAt[R any](ctx context.Context, c *Client, address string, call func(context.Context, perdurepb.AdminClient) (R, error)) (r R, sent bool, err error) {
	cc, err := c.conn(address)
	if err != nil {
		return r, false, err
	}
	if err := c.connected(ctx, address, cc); err != nil {
		return r, false, err
	}
	r, err = call(ctx, perdurepb.NewAdminClient(cc))
	return r, true, fromStatus(address, err)
}

// connected waits until a server is connected, for as long as one try may take.
func (c *Client) connected(ctx context.Context, address string, cc *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if reachable(ctx, cc) {
		return nil
	}
	return &Error{Reason: "UNAVAILABLE", Retryable: true, Message: fmt.Sprintf("server %s does not take connections%s", address, c.whyNot(address))}
}
