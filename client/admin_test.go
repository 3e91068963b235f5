package client_test

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/client"
)

// administer answers an admin call with what the test's function says.
func administer[R any](s *fakeServer, ctx context.Context, request any) (R, error) {
	var none R
	if err := s.hang(ctx); err != nil {
		return none, err
	}
	s.w.mu.Lock()
	f := s.w.admin
	s.w.mu.Unlock()
	response, err := f(s.address, request)
	if err != nil {
		return none, err
	}
	return response.(R), nil
}

func (s *fakeServer) GetRealm(ctx context.Context, r *perdurepb.GetRealmRequest) (*perdurepb.GetRealmResponse, error) {
	return administer[*perdurepb.GetRealmResponse](s, ctx, r)
}

func (s *fakeServer) PlanRealm(ctx context.Context, r *perdurepb.PlanRealmRequest) (*perdurepb.PlanRealmResponse, error) {
	return administer[*perdurepb.PlanRealmResponse](s, ctx, r)
}

func (s *fakeServer) ApplyRealm(ctx context.Context, r *perdurepb.ApplyRealmRequest) (*perdurepb.ApplyRealmResponse, error) {
	return administer[*perdurepb.ApplyRealmResponse](s, ctx, r)
}

func (s *fakeServer) Status(ctx context.Context, r *perdurepb.StatusRequest) (*perdurepb.StatusResponse, error) {
	return administer[*perdurepb.StatusResponse](s, ctx, r)
}

func TestRealmCalls(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		var asked []any
		w.admin = func(server string, request any) (any, error) {
			if server != "s3" {
				return nil, refuse(perdurepb.Reason_REASON_NOT_LEADER, "s3")
			}
			asked = append(asked, request)
			changes := []*perdurepb.Change{{Path: "a", Action: "delete", Detail: "d", Destroys: true}}
			warnings := []*perdurepb.Problem{{Line: 1, Column: 2, Path: "p", Message: "m", Warning: true}}
			switch r := request.(type) {
			case *perdurepb.GetRealmRequest:
				return &perdurepb.GetRealmResponse{Revision: r.Revision + 7, Document: []byte("doc"), AppliedAt: "now"}, nil
			case *perdurepb.PlanRealmRequest:
				return &perdurepb.PlanRealmResponse{Revision: 7, Changes: changes, Warnings: warnings}, nil
			}
			return &perdurepb.ApplyRealmResponse{Revision: 8, Changes: changes, Warnings: warnings}, nil
		}
		realm, err := c.Admin().GetRealm(t.Context(), 0)
		if want := (client.Realm{Revision: 7, Document: []byte("doc"), AppliedAt: "now"}); err != nil || !reflect.DeepEqual(*realm, want) {
			t.Errorf("realm %+v, %v", realm, err)
		}
		want := client.Plan{
			Revision: 7, Changes: []client.Change{{Path: "a", Action: "delete", Detail: "d", Destroys: true}},
			Warnings: []client.Problem{{Line: 1, Column: 2, Path: "p", Message: "m", Warning: true}},
		}
		plan, err := c.Admin().PlanRealm(t.Context(), []byte("doc"), "realm.yaml")
		if err != nil || !reflect.DeepEqual(*plan, want) {
			t.Errorf("plan %+v, %v", plan, err)
		}
		want.Revision = 8
		plan, err = c.Admin().ApplyRealm(t.Context(), []byte("doc"), "realm.yaml", client.IfRevision(7), client.NoWait())
		if err != nil || !reflect.DeepEqual(*plan, want) {
			t.Errorf("applied %+v, %v", plan, err)
		}
		apply := asked[2].(*perdurepb.ApplyRealmRequest)
		if !apply.Check || apply.ExpectedRevision != 7 || !apply.NoWait || apply.File != "realm.yaml" || string(apply.Document) != "doc" {
			t.Errorf("asked for %v", apply)
		}
	})
}

func TestAdminErrors(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		reason := perdurepb.Reason_REASON_REVISION_CONFLICT
		calls := 0
		w.admin = func(string, any) (any, error) {
			calls++
			return nil, refuse(reason, "")
		}
		if _, err := c.Admin().ApplyRealm(t.Context(), nil, ""); !errors.Is(err, client.ErrRevisionConflict) || calls != 1 {
			t.Errorf("%v after %d calls", err, calls)
		}
		reason = perdurepb.Reason_REASON_REALM_FORMING
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := c.Admin().ApplyRealm(ctx, nil, "")
		if !errors.Is(err, client.ErrRealmForming) || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, client.ErrOutcomeUnknown) {
			t.Errorf("while forming: %v", err)
		}
		short := w.connect(client.WithRetry(time.Second))
		defer closeAll(t, short)
		began := time.Now()
		if _, err := short.Admin().GetRealm(t.Context(), 0); !errors.Is(err, client.ErrRealmForming) || time.Since(began) > 1100*time.Millisecond {
			t.Errorf("with a retry duration: %v after %v", err, time.Since(began))
		}
	})
}

// TestApplyWithoutAnswer breaks the connection while a realm is applied.
func TestApplyWithoutAnswer(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		calls := 0
		w.admin = func(server string, _ any) (any, error) {
			if calls++; calls == 1 {
				go w.kill(server)
				pass(time.Second) // the connection breaks meanwhile
			}
			return &perdurepb.ApplyRealmResponse{Revision: 1}, nil
		}
		if _, err := c.Admin().ApplyRealm(t.Context(), nil, ""); err != nil || calls != 2 {
			t.Errorf("what may be repeated: %v after %d calls", err, calls)
		}
		calls = 0
		_, err := c.Admin().ApplyRealm(t.Context(), nil, "", client.IfRevision(3))
		if !errors.Is(err, client.ErrOutcomeUnknown) || calls != 1 {
			t.Errorf("what may not: %v after %d calls", err, calls)
		}
		pass(2 * time.Second)
	})
}

func TestStatus(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		w.admin = func(server string, _ any) (any, error) { return statusOf(server), nil }
		w.freeze("s2")
		s, err := c.Admin().Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		up := map[string]bool{}
		for _, server := range s.Servers {
			up[server.Name] = server.Up
		}
		if want := map[string]bool{"s1": true, "s2": false, "s3": true}; !reflect.DeepEqual(up, want) {
			t.Errorf("up: %v", up)
		}
		if len(s.Clusters) != 1 {
			t.Fatalf("clusters %+v", s.Clusters)
		}
		for _, server := range s.Servers {
			if own := server.Process; (own != nil) != server.Up || own != nil && own.Fsyncs != fsyncsOf(server.Name) {
				t.Errorf("process of %s: %+v", server.Name, own)
			}
		}
		main := s.Clusters[0]
		states := map[string]string{}
		for _, service := range main.Services {
			states[service.Name] = service.State + " " + service.StateHash
		}
		if want := map[string]string{"main-1": "follower hash-s1", "main-2": "unknown ", "main-3": "leader hash-s3"}; !reflect.DeepEqual(states, want) {
			t.Errorf("services %v", states)
		}
		if main.Leader != "s3" || main.Term != 2 || main.Durability != "sync" || len(main.Stores) != 1 || main.Stores[0].Durables[0].Unacked != 3 {
			t.Errorf("cluster %+v", main)
		}
		each, err := c.Admin().StatusEach(t.Context())
		if err != nil || len(each) != 2 || each["s1"].Server != "s1" {
			t.Errorf("each: %v, %v", each, err)
		}
		if _, err := c.Admin().StatusAt(t.Context(), "nowhere"); !errors.Is(err, client.ErrUnavailable) {
			t.Errorf("of nobody: %v", err)
		}
	})
}

func TestProcesses(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.connect()
		defer closeAll(t, c)
		w.admin = func(server string, request any) (any, error) {
			if !request.(*perdurepb.StatusRequest).ProcessOnly {
				t.Errorf("%s is asked for clusters, too", server)
			}
			return statusOf(server), nil
		}
		w.freeze("s2")
		got, err := c.Admin().Processes(t.Context())
		want := func(name string) *client.ProcessStatus {
			return &client.ProcessStatus{
				Incarnation: 9, Uptime: 1500 * time.Millisecond, Fsyncs: fsyncsOf(name),
				AllocatedObjects: 1, AllocatedBytes: 2, GCCycles: 3, Goroutines: 4,
			}
		}
		if all := map[string]*client.ProcessStatus{"s1": want("s1"), "s2": nil, "s3": want("s3")}; err != nil || !reflect.DeepEqual(got, all) {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

func fsyncsOf(server string) uint64 { return uint64(server[1]) }

// statusOf is what a server says. s3 leads since term 2; s1 has not heard.
func statusOf(server string) *perdurepb.StatusResponse {
	leader, term, unacked := "s3", uint64(2), uint64(3)
	if server == "s1" {
		leader, term, unacked = "s1", 1, 0
	}
	r := &perdurepb.StatusResponse{Realm: "demo", Revision: 4, Server: server, Process: &perdurepb.ProcessStatus{
		Incarnation: 9, UptimeMs: 1500, Fsyncs: fsyncsOf(server), AllocatedObjects: 1, AllocatedBytes: 2, GcCycles: 3, Goroutines: 4,
	}}
	cluster := &perdurepb.ClusterStatus{Id: 1, Name: "main", Durability: perdurepb.Durability_DURABILITY_SYNC, Leader: leader, Term: term}
	for _, name := range []string{"s1", "s2", "s3"} {
		r.Servers = append(r.Servers, &perdurepb.ServerStatus{Name: name, Client: name, Up: true})
		service := &perdurepb.ServiceStatus{Name: "main-" + name[1:], Server: name, State: "unknown"}
		if name == server {
			service.State, service.StateHash = "follower", "hash-"+name
			if name == "s3" {
				service.State = "leader"
			}
		}
		cluster.Services = append(cluster.Services, service)
	}
	cluster.Stores = []*perdurepb.StoreStatus{{Name: "flights", Durables: []*perdurepb.DurableStatus{{Name: "audit", Unacked: unacked}}}}
	r.Clusters = append(r.Clusters, cluster)
	return r
}
