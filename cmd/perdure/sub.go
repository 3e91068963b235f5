package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/message"
	"github.com/perdure/perdure/realm"
)

// subOptions are the flags of `perdure sub`.
type subOptions struct {
	durable    string
	subscriber string
	kind       string
	match      string
	ack        bool
	prefetch   int
	count      int
	idle       time.Duration
}

func (p *program) subCommand() *cobra.Command {
	var o subOptions
	cmd := &cobra.Command{
		Use:   "sub ENDPOINT",
		Short: "Print messages as they arrive",
		Long: "Subscribes a durable and prints what it delivers. The durable is the one named by --durable,\n" +
			"made from the endpoint's template if it does not exist, or what the endpoint gives to\n" +
			"--subscriber, or its default.\n\n" +
			"Nothing is acknowledged unless --ack says so: what was only looked at is delivered again.\n" +
			"It ends with Ctrl-C, after --count messages, or when none came for --idle-timeout.\n\n" +
			"With -o json it prints JSON Lines: an object a line for each message.",
		Example: "  perdure sub default --durable d\n" +
			"  perdure sub default --durable d --ack --count 3\n" +
			"  perdure sub flights --durable lv --match '{\"origin\":\"LAS\"}' -o json\n" +
			"  perdure sub flights --durable work --kind shared --ack --idle-timeout 5s",
		Args:              oneArg("ENDPOINT"),
		ValidArgsFunction: p.completeEndpoint,
	}
	conn := connectionFlags(cmd)
	output := outputFlag(cmd)
	f := cmd.Flags()
	f.StringVar(&o.durable, "durable", "", "name of the durable")
	f.StringVar(&o.subscriber, "subscriber", "", "name that the endpoint maps to a durable")
	f.StringVar(&o.kind, "kind", "", "kind that the durable must have: standard or shared")
	f.StringVar(&o.match, "match", "", "matcher of the durable, a JSON object")
	f.BoolVar(&o.ack, "ack", false, "acknowledge what was printed")
	f.IntVar(&o.prefetch, "prefetch", 0, "messages to hold unacknowledged; 0 is the durable's own with --ack, and 1,048,576 without")
	f.IntVar(&o.count, "count", 0, "end after so many messages; 0 is never")
	f.DurationVar(&o.idle, "idle-timeout", 0, "end when no message came for so long; 0 is never")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := errors.Join(conn.check(cmd), o.check(cmd)); err != nil {
			return err
		}
		return p.sub(cmd.Context(), conn, args[0], o, *output)
	}
	return cmd
}

func (o *subOptions) check(cmd *cobra.Command) error {
	switch {
	case o.kind != "" && o.kind != "standard" && o.kind != "shared":
		return usagef(cmd, "--kind %q: it must be standard or shared", o.kind)
	case o.durable != "" && o.subscriber != "":
		return usagef(cmd, "both --durable and --subscriber given; one of them is enough")
	case o.count < 0:
		return usagef(cmd, "--count %d: it cannot be negative", o.count)
	case o.idle < 0:
		return usagef(cmd, "--idle-timeout %v: it cannot be negative", o.idle)
	case o.prefetch < 0 || o.prefetch > realm.MaxPrefetch:
		return usagef(cmd, "--prefetch %d: it must be 0 to %d", o.prefetch, realm.MaxPrefetch)
	}
	if o.match != "" {
		if _, err := message.ParseMatcher(o.match); err != nil {
			return usagef(cmd, "--match: %w", err)
		}
	}
	return nil
}

func (o *subOptions) subscribe() []client.SubscribeOption {
	var list []client.SubscribeOption
	if o.durable != "" {
		list = append(list, client.Durable(o.durable))
	}
	if o.subscriber != "" {
		list = append(list, client.SubscriberName(o.subscriber))
	}
	switch o.kind {
	case "standard":
		list = append(list, client.Standard())
	case "shared":
		list = append(list, client.Shared())
	}
	if o.match != "" {
		list = append(list, client.Match(o.match))
	}
	switch {
	case o.prefetch > 0:
		list = append(list, client.Prefetch(o.prefetch))
	case !o.ack:
		// Who only looks would see nothing more once the window is full.
		list = append(list, client.Prefetch(realm.MaxPrefetch), client.PrefetchBytes(1<<30))
	}
	return list
}

// wanted says which messages a durable keeps.
func (o *subOptions) wanted() string {
	if o.match == "" {
		return ""
	}
	return " that matches " + o.match
}

func (p *program) sub(ctx context.Context, conn *connection, endpoint string, o subOptions, output format) error {
	c, err := conn.open(ctx, "sub")
	if err != nil {
		return err
	}
	defer closeClient(c)
	s, err := c.Subscribe(ctx, endpoint, o.subscribe()...)
	if errors.Is(err, client.ErrNoSuchDurable) {
		return fmt.Errorf("%w; --durable NAME says which durable, or makes one", err)
	}
	if err != nil {
		return err
	}
	if s.Created() {
		fmt.Fprintf(p.stderr, "created durable %q (%s) in store %q: it keeps every message%s from now on until acknowledged\n", s.Durable(), s.Kind(), s.Store(), o.wanted())
	}
	if isTerminal(p.stderr) {
		fmt.Fprintf(p.stderr, "perdure: subscribed %s durable %s of store %s\n", s.Kind(), s.Durable(), s.Store())
	}
	print := printMessage
	if output == formatJSON {
		print = printMessageJSON
	}
	received, err := receive(ctx, s, o, func(d client.Delivery) error { return print(p.stdout, d) })
	// What was printed and acknowledged is confirmed before we end.
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), conn.timeout)
	defer cancel()
	if o.ack && err == nil {
		err = s.Drain(closing)
	}
	err = errors.Join(err, s.Close(closing))
	if isTerminal(p.stderr) {
		fmt.Fprintf(p.stderr, "perdure: received %s\n", countOf(received, "message"))
	}
	return err
}

// receive hands messages to show until one of the reasons to end comes. Ctrl-C
// is no error.
func receive(ctx context.Context, s *client.Subscription, o subOptions, show func(client.Delivery) error) (received int, err error) {
	for o.count == 0 || received < o.count {
		waiting, cancel := ctx, context.CancelFunc(func() {})
		if o.idle > 0 {
			waiting, cancel = context.WithTimeout(ctx, o.idle)
		}
		d, err := s.Receive(waiting)
		idle := waiting.Err() != nil
		cancel()
		if err != nil {
			if idle && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)) {
				return received, nil
			}
			return received, err
		}
		if err := show(d); err != nil {
			return received, err
		}
		received++
		if o.ack {
			if err := d.Ack(); err != nil {
				return received, err
			}
		}
	}
	return received, nil
}

// printMessage prints a message for people: id, fields, body, and what is
// unusual about it.
func printMessage(w io.Writer, d client.Delivery) error {
	m, err := d.Message()
	if err != nil {
		return fmt.Errorf("message %v: %w", d.ID(), err)
	}
	line := []byte(d.ID().String())
	if len(m.Headers) > 0 {
		line = append(line, "  ["...)
		for i, h := range m.Headers {
			if i > 0 {
				line = append(line, ' ')
			}
			line = fmt.Appendf(line, "%s=%s", h.Name, printable([]byte(h.Value)))
		}
		line = append(line, ']')
	}
	if len(m.Fields) > 0 {
		line = m.AppendJSON(append(line, "  "...))
	}
	if len(m.Body) > 0 {
		line = append(append(line, "  "...), printable(m.Body)...)
	}
	if n := d.DeliveryCount(); n > 0 {
		line = fmt.Appendf(line, "  (delivered before: %d)", n)
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

// printable keeps text as it is and quotes what would disturb a terminal.
func printable(text []byte) string {
	if !utf8.Valid(text) {
		return fmt.Sprintf("%q", text)
	}
	for _, r := range string(text) {
		if r < ' ' && r != '\t' || r == 0x7f {
			return fmt.Sprintf("%q", text)
		}
	}
	return string(text)
}

// messageView is a message as `sub -o json` prints it, one a line. A body that
// is not UTF-8 is in body_base64, and body is null.
type messageView struct {
	ID      uint64            `json:"id"`
	Stamp   time.Time         `json:"stamp"`
	Count   int               `json:"count"`
	Fields  json.RawMessage   `json:"fields"`
	Headers map[string]string `json:"headers"`
	Body    *string           `json:"body"`
	Bytes   []byte            `json:"body_base64,omitempty"`
}

func printMessageJSON(w io.Writer, d client.Delivery) error {
	m, err := d.Message()
	if err != nil {
		return fmt.Errorf("message %v: %w", d.ID(), err)
	}
	return writeJSONLine(w, newMessageView(d.ID(), d.Stamp(), d.DeliveryCount(), &m))
}

func newMessageView(id message.ID, stamp time.Time, count int, m *message.Message) messageView {
	v := messageView{ID: uint64(id), Stamp: stamp.UTC(), Count: count, Fields: m.AppendJSON(nil), Headers: map[string]string{}}
	for _, h := range m.Headers {
		v.Headers[h.Name] = h.Value
	}
	if utf8.Valid(m.Body) {
		body := string(m.Body)
		v.Body = &body
	} else {
		v.Bytes = m.Body
	}
	return v
}

// writeJSONLine writes v on a line of its own.
func writeJSONLine(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
