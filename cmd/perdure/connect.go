package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/client"
)

const (
	defaultConnect = "127.0.0.1:7400,127.0.0.1:7410,127.0.0.1:7420"
	defaultTimeout = 10 * time.Second
)

// connection is the flags of every verb that talks to a cluster.
type connection struct {
	addresses string
	timeout   time.Duration
}

func connectionFlags(cmd *cobra.Command) *connection {
	c := &connection{}
	cmd.Flags().StringVar(&c.addresses, "connect", defaultConnect, "addresses of servers, for clients")
	cmd.Flags().DurationVar(&c.timeout, "timeout", defaultTimeout, "how long to wait for servers")
	return c
}

// check refuses values that cannot be meant.
func (c *connection) check(cmd *cobra.Command) error {
	if c.timeout <= 0 {
		return usagef(cmd, "--timeout %v: it must be positive", c.timeout)
	}
	return checkAddresses(cmd, c.addresses)
}

// checkAddresses refuses a --connect that is no list of HOST:PORT.
func checkAddresses(cmd *cobra.Command, list string) error {
	for a := range strings.SplitSeq(list, ",") {
		a = strings.TrimSpace(a)
		if a == "" {
			continue // none at all is the client's to refuse
		}
		host, port, err := net.SplitHostPort(a)
		if err != nil || host == "" || port == "" {
			return usagef(cmd, "--connect %q: want HOST:PORT, as in 127.0.0.1:7400", a)
		}
	}
	return nil
}

// open connects. Whatever is retried is retried for the timeout.
func (c *connection) open(ctx context.Context, name string) (*client.Client, error) {
	cl, err := client.Connect(ctx, c.addresses, client.WithName("perdure "+name),
		client.WithConnectTimeout(c.timeout), client.WithRetry(c.timeout))
	if errors.Is(err, client.ErrUnavailable) {
		return nil, fmt.Errorf("%w; is a server running? start one with perdure dev, or give --connect", err)
	}
	return cl, err
}

// call connects, calls do within the timeout, and closes.
func (c *connection) call(ctx context.Context, name string, do func(context.Context, *client.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	cl, err := c.open(ctx, name)
	if err != nil {
		return err
	}
	defer closeClient(cl)
	return do(ctx, cl)
}

// long connects, calls do, which may take as long as it goes on, and closes. Servers
// that do not answer are waited for during the timeout.
func (c *connection) long(ctx context.Context, name string, do func(context.Context, *client.Client) error) error {
	cl, err := c.open(ctx, name)
	if err != nil {
		return err
	}
	defer closeClient(cl)
	return do(ctx, cl)
}

// closeClient closes a client whose work is done; what it says does not matter.
func closeClient(c *client.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = c.Close(ctx)
}
