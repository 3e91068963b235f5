package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	// maxSocketPath is what every system allows for the path of a socket.
	maxSocketPath = 100
	// controlPatience bounds a request, a restart included.
	controlPatience = time.Minute
)

// devRequest is what another terminal asks of the dev in the foreground: one
// JSON value on the socket, answered by one.
type devRequest struct {
	Verb   string `json:"verb"` // ls, kill, pause, resume, restart
	Server string `json:"server,omitempty"`
}

type devResponse struct {
	Error   string   `json:"error,omitempty"`
	Warning string   `json:"warning,omitempty"` // it was done, but
	State   devState `json:"state"`
}

// listenControl listens on a socket in dir, or where that path is too long for
// one, in a new private directory, which is removed by remove.
func listenControl(dir string) (l net.Listener, remove func() error, err error) {
	path := filepath.Join(dir, "dev.sock")
	remove = func() error { return nil }
	if len(path) > maxSocketPath {
		private, err := os.MkdirTemp("", "perdure-dev-")
		if err != nil {
			return nil, nil, err
		}
		path, remove = filepath.Join(private, "dev.sock"), func() error { return os.RemoveAll(private) }
	}
	// What is there was left by a dev that was killed: nobody answered on it.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, nil, errors.Join(err, remove())
	}
	l, err = net.Listen("unix", path)
	if err != nil {
		return nil, nil, errors.Join(err, remove())
	}
	return l, remove, nil
}

// serveControl answers requests until the listener is closed, and returns when
// the last one is answered. ctx ends what is being waited for.
func serveControl(ctx context.Context, l net.Listener, answer func(context.Context, devRequest) devResponse) {
	connections := make(chan struct{}, 16) // a terminal holds one for one request
	for {
		conn, err := l.Accept()
		if err != nil {
			break
		}
		connections <- struct{}{}
		go func() {
			defer func() { <-connections }()
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(2 * controlPatience))
			var request devRequest
			if json.NewDecoder(conn).Decode(&request) == nil {
				_ = json.NewEncoder(conn).Encode(answer(ctx, request))
			}
		}()
	}
	for range cap(connections) {
		connections <- struct{}{}
	}
}

// askControl asks the dev whose files are in dir. It fails where none runs.
func askControl(ctx context.Context, dir string, request devRequest) (devResponse, error) {
	nobody := func(cause string) error {
		return fmt.Errorf("no dev runs with its files in %s: %s; start one with perdure dev, or name its directory with --data", dir, cause)
	}
	last, err := readDevState(dir)
	if err != nil {
		return devResponse{}, err
	}
	if last == nil {
		return devResponse{}, nobody("there is no " + devFile)
	}
	var d net.Dialer
	ctx, cancel := context.WithTimeout(ctx, controlPatience)
	defer cancel()
	conn, err := d.DialContext(ctx, "unix", last.Control)
	if err != nil {
		return devResponse{}, nobody("it has ended")
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	var response devResponse
	if err := errors.Join(json.NewEncoder(conn).Encode(request), json.NewDecoder(conn).Decode(&response)); err != nil {
		return devResponse{}, fmt.Errorf("ask the dev with its files in %s: %w", dir, errors.Join(err, ctx.Err()))
	}
	if response.Error != "" {
		return devResponse{}, errors.New(response.Error)
	}
	return response, nil
}
