package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/message"
)

// pubWaiting bounds the messages whose outcome is awaited; the publisher's own
// window is in batches and bytes.
const pubWaiting = 64 << 10

// pubResult is what `pub -o json` prints.
type pubResult struct {
	Endpoint   string     `json:"endpoint"`
	Store      string     `json:"store"`
	Published  int        `json:"published"`
	Confirmed  int        `json:"confirmed"`
	Duplicates int        `json:"duplicates"`
	FirstID    message.ID `json:"first_id"`
	LastID     message.ID `json:"last_id"`
	Interested bool       `json:"interested"`
	Confirms   bool       `json:"confirms"` // false: publisher_mode noconfirm
}

func (p *program) pubCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pub ENDPOINT [BODY...]",
		Short: "Publish messages",
		Long: "Publishes a message for each BODY or, without any, for each line of standard input, and\n" +
			"waits until all are confirmed.\n\n" +
			"With --jsonl each line of FILE, or of standard input for -, is a JSON object whose members\n" +
			"become typed fields: a string stays a string, an integer within 64 bits is an int64, other\n" +
			"numbers are float64, null is no field, an object is a nested message, and an array of one\n" +
			"kind is an array. The first line that is none of this, or that is refused, ends it, with its\n" +
			"number.\n\n" +
			"What ends early says which lines are confirmed, of which nobody knows whether they are stored,\n" +
			"and how to go on. A message is stored once however often it is sent again within one run;\n" +
			"nothing tells a second run what the first one stored.\n\n" +
			"--timeout is also how long it is tried to publish a message while no leader takes it.",
		Example: "  perdure pub default hi\n" +
			"  perdure pub default one two three --header source=shell\n" +
			"  seq 100 | perdure pub default\n" +
			"  perdure pub flights --jsonl flights.jsonl -o json",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef(cmd, "no ENDPOINT given")
			}
			return nil
		},
	}
	conn := connectionFlags(cmd)
	output := outputFlag(cmd)
	jsonl := cmd.Flags().String("jsonl", "", "publish the JSON objects of a file, one a line; - is standard input")
	headers := cmd.Flags().StringArray("header", nil, "header NAME=VALUE of every message; may be repeated")
	cmd.ValidArgsFunction = p.completeEndpoint
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := conn.check(cmd); err != nil {
			return err
		}
		if *jsonl != "" && len(args) > 1 {
			return usagef(cmd, "both BODY and --jsonl given; one of them is enough")
		}
		list, err := parseHeaders(cmd, *headers)
		if err != nil {
			return err
		}
		in, err := p.pubSource(args[1:], *jsonl)
		if err != nil {
			return err
		}
		defer in.close()
		in.headers, in.flags = list, sameFlags(cmd, *headers)
		return p.pub(cmd.Context(), conn, args[0], in, *output)
	}
	return cmd
}

func parseHeaders(cmd *cobra.Command, given []string) ([]message.Header, error) {
	var list []message.Header
	for _, h := range given {
		name, value, ok := strings.Cut(h, "=")
		if !ok {
			return nil, usagef(cmd, "--header %q: want NAME=VALUE", h)
		}
		if err := message.ValidName(name); err != nil {
			return nil, usagef(cmd, "--header %q: %w", h, err)
		}
		if !utf8.ValidString(value) {
			return nil, usagef(cmd, "--header %q: the value is not UTF-8", h)
		}
		if slices.ContainsFunc(list, func(o message.Header) bool { return o.Name == name }) {
			return nil, usagef(cmd, "--header %q: header %q was given before", h, name)
		}
		list = append(list, message.Header{Name: name, Value: value})
	}
	return list, nil
}

// pub publishes what in yields, and reports how far it came whatever happens.
func (p *program) pub(ctx context.Context, conn *connection, endpoint string, in *pubInput, output format) error {
	c, err := conn.open(ctx, "pub")
	if err != nil {
		return err
	}
	defer closeClient(c)
	pub, err := c.Publisher(ctx, endpoint)
	if err != nil {
		return err
	}
	publishing, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	way := make(chan sent, pubWaiting)
	counted := make(chan *tally, 1)
	go func() { counted <- awaitOutcomes(way, conn.timeout, stop) }()
	stopped := in.each(publishing, func(line int, m *message.Message) error {
		f := pub.PublishAsync(publishing, m)
		if err := f.Refused(); err != nil {
			return err
		}
		way <- sent{f, line}
		return nil
	})
	close(way)
	t := <-counted
	switch err = t.err; {
	case err == nil:
		err = stopped
	case errors.Is(stopped, err):
	default:
		err = errors.Join(err, stopped)
	}
	if err != nil {
		return &partly{err, in.progress(endpoint, t)}
	}
	return p.printPublished(endpoint, t, output)
}

// printPublished reports a run in which nothing went wrong.
func (p *program) printPublished(endpoint string, t *tally, output format) error {
	r := t.result(endpoint)
	switch {
	case output == formatJSON:
		return p.writeJSON(p.stdout, r)
	case !r.Confirms:
		_, err := fmt.Fprintf(p.stdout, "handed %s to %s, which confirms nothing (publisher_mode: noconfirm)\n", countOf(r.Published, "message"), endpoint)
		return err
	}
	_, err := fmt.Fprintf(p.stdout, "published %s to %s, confirmed %s%s\n", grouped(r.Published), endpoint, grouped(r.Confirmed), idRange(r))
	if r.Published > 0 && !r.Interested {
		fmt.Fprintln(p.stderr, "perdure: no durable is interested, so nothing was kept; subscribe first, as with: perdure sub "+word(endpoint)+" --durable NAME")
	}
	return err
}

func idRange(r pubResult) string {
	if r.FirstID == 0 {
		return ""
	}
	return fmt.Sprintf(", store %s, ids %v to %v", r.Store, r.FirstID, r.LastID)
}

// pubInput is where messages come from.
type pubInput struct {
	name    string // of the source, for errors about a line
	bodies  []string
	lines   io.Reader // nil if there are bodies
	file    *os.File  // to be closed, or nil
	jsonl   bool
	headers []message.Header
	flags   string // to be given again by who goes on
}

func (p *program) pubSource(bodies []string, jsonl string) (*pubInput, error) {
	in := &pubInput{name: "stdin", bodies: bodies, jsonl: jsonl != ""}
	switch {
	case jsonl != "" && jsonl != "-":
		f, err := os.Open(jsonl)
		if err != nil {
			return nil, err
		}
		in.name, in.lines, in.file = jsonl, f, f
	case len(bodies) == 0:
		in.lines = p.stdin
	}
	return in, nil
}

func (in *pubInput) close() {
	if in.file != nil {
		_ = in.file.Close()
	}
}

// each calls do for every message, in order, with the number of its line or
// BODY, until ctx ends or do fails, and says at which message it did.
func (in *pubInput) each(ctx context.Context, do func(int, *message.Message) error) error {
	if in.lines == nil {
		for i, body := range in.bodies {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := do(i+1, &message.Message{Headers: in.headers, Body: []byte(body)}); err != nil {
				return fmt.Errorf("BODY %d: %w", i+1, err)
			}
		}
		return nil
	}
	lines := readLines(ctx, in.lines)
	for number := 1; ; number++ {
		var line textLine
		var more bool
		select {
		case line, more = <-lines:
		case <-ctx.Done(): // the reader may be blocked
		}
		if !more {
			break
		}
		if line.err != nil {
			return fmt.Errorf("%s:%d: %w", in.name, number, line.err)
		}
		if ctx.Err() != nil {
			break
		}
		m := &message.Message{Body: line.text}
		if in.jsonl {
			if len(bytes.TrimSpace(line.text)) == 0 {
				continue
			}
			var err error
			if m, err = message.FromJSON(line.text); err != nil {
				return failuref("INVALID_ARGUMENT", "%s:%d: %w", in.name, number, err)
			}
		}
		m.Headers = in.headers
		if err := do(number, m); err != nil {
			return fmt.Errorf("%s:%d: %w", in.name, number, err)
		}
	}
	return context.Cause(ctx)
}

type textLine struct {
	text []byte
	err  error
}

// readLines yields lines without their ends until ctx ends. The reader stays
// blocked in a goroutine then, which ends with the process.
func readLines(ctx context.Context, r io.Reader) <-chan textLine {
	lines := make(chan textLine, 256) // so that reading and publishing overlap
	send := func(l textLine) bool {
		select {
		case lines <- l:
			return true
		case <-ctx.Done():
			return false
		}
	}
	go func() {
		defer close(lines)
		s := bufio.NewScanner(r)
		s.Buffer(make([]byte, 64<<10), message.HardMaxMessageSize)
		s.Split(splitLines)
		for s.Scan() {
			if !send(textLine{text: bytes.Clone(s.Bytes())}) {
				return
			}
		}
		err := s.Err()
		if errors.Is(err, bufio.ErrTooLong) {
			err = failuref("MESSAGE_TOO_LARGE", "the line is longer than %d bytes, the largest message", message.HardMaxMessageSize)
		}
		if err != nil {
			send(textLine{err: err})
		}
	}()
	return lines
}

// splitLines splits at \n alone: a \r belongs to the message.
func splitLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}
