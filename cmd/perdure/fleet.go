package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/perdure/perdure/internal/fleet"
)

const (
	// stopPatience is how long servers may take to stop gracefully.
	stopPatience = 15 * time.Second
	// readyPoll is how often what is about to happen is looked for.
	readyPoll = 50 * time.Millisecond
)

// newFleet lays out servers of this very program in dir; nothing runs yet.
func (p *program) newFleet(dir string, ports []int) (*fleet.Fleet, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return fleet.New(self, p.environ, dir, ports), nil
}

// stopFleet stops all servers, gracefully if they can.
func stopFleet(f *fleet.Fleet) {
	ctx, cancel := context.WithTimeout(context.Background(), stopPatience)
	defer cancel()
	f.Stop(ctx)
}
