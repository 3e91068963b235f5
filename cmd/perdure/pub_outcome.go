package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/message"
)

// outcomeGrace lets the publisher end first, whose error says more.
const outcomeGrace = time.Second

// sent is a message on its way, and the line or BODY that it is.
type sent struct {
	future client.Future
	line   int
}

// verdict is what became of a message.
type verdict uint8

const (
	confirmed verdict = iota
	handed            // to an endpoint that confirms nothing
	unknown           // it may be stored
	unstored          // it is not, and will not be
)

// lineRange is lines of the input, or BODYs, both ends included.
type lineRange struct {
	First int `json:"first"`
	Last  int `json:"last"`
}

func (r lineRange) String() string {
	if r.First == r.Last {
		return fmt.Sprint(r.First)
	}
	return fmt.Sprintf("%d to %d", r.First, r.Last)
}

// tally is what became of the messages of a run.
type tally struct {
	counts [4]int         // by verdict
	lines  [4][]lineRange // likewise, ascending
	before verdict        // of the message before
	last   int            // line of it, 0 before the first
	next   int            // the first line that is neither confirmed nor handed; 0 if there is none

	store       string
	duplicates  int
	first, high message.ID
	interested  bool
	err         error // the first
}

// awaitOutcomes waits for outcomes in order, and stops the publishing at the
// first that is an error. It drains way. Each outcome may take the timeout, and
// a little more: the publisher, which gives up after the same time, says why.
func awaitOutcomes(way <-chan sent, timeout time.Duration, stop context.CancelCauseFunc) *tally {
	t := &tally{}
	for one := range way {
		ctx, cancel := context.WithTimeout(context.Background(), timeout+outcomeGrace)
		receipt, err := one.future.Wait(ctx)
		cancel()
		t.count(lineRange{one.line, one.line}, 1, receipt, err)
		if err != nil && t.err == nil {
			t.err = err
			stop(err)
		}
	}
	return t
}

// count enters the outcome of the next n messages, which are of some lines; r is
// of the first.
func (t *tally) count(lines lineRange, n int, r client.Receipt, err error) {
	v := confirmed
	switch {
	case errors.Is(err, client.ErrOutcomeUnknown):
		v = unknown
	case err != nil:
		v = unstored
	case !r.Confirmed:
		v = handed
	}
	if err == nil {
		t.store, t.interested = r.Store, t.interested || r.Interested
		if r.Duplicate {
			t.duplicates += n
		}
		if r.ID != 0 {
			t.high = r.ID + message.ID(n-1)
			if t.first == 0 {
				t.first = r.ID
			}
		}
	} else if t.next == 0 {
		t.next = lines.First
	}
	t.counts[v] += n
	if n := len(t.lines[v]); n > 0 && t.before == v {
		t.lines[v][n-1].Last = lines.Last // blank lines between make no gap
	} else {
		t.lines[v] = append(t.lines[v], lines)
	}
	t.before, t.last = v, lines.Last
}

// published is how many messages left, and may be stored.
func (t *tally) published() int { return t.counts[confirmed] + t.counts[handed] + t.counts[unknown] }

func (t *tally) result(endpoint string) pubResult {
	return pubResult{
		Endpoint: endpoint, Store: t.store, Published: t.published(), Confirmed: t.counts[confirmed],
		Duplicates: t.duplicates, FirstID: t.first, LastID: t.high, Interested: t.interested, Confirms: t.counts[handed] == 0,
	}
}

// partly is the error of a run that published a part.
type partly struct {
	err  error
	done *progress
}

func (e *partly) Error() string { return e.err.Error() }
func (e *partly) Unwrap() error { return e.err }

// progress is how far a pub came before it failed.
type progress struct {
	Published int        `json:"published"`
	Confirmed int        `json:"confirmed"`
	Unknown   int        `json:"unknown"`
	LastID    message.ID `json:"last_id"`
	Confirms  bool       `json:"confirms"`

	ConfirmedLines []lineRange `json:"confirmed_lines"`
	UnknownLines   []lineRange `json:"unknown_lines"`
	Next           int         `json:"next_line"` // to go on with
	GoOn           string      `json:"go_on"`     // a command

	noun       string // what the numbers count
	resumes    bool   // who goes on is the same publisher
	handed     []lineRange
	notStored  []lineRange
	outOfOrder []lineRange // confirmed, behind what is not
}

// progress says how far t came with the lines of an input.
func (t *tally) progress() *progress {
	g := &progress{
		Published: t.published(), Confirmed: t.counts[confirmed], Unknown: t.counts[unknown], LastID: t.high, Confirms: t.counts[handed] == 0,
		ConfirmedLines: append([]lineRange{}, t.lines[confirmed]...), UnknownLines: append([]lineRange{}, t.lines[unknown]...),
		Next: t.next, noun: "line", handed: t.lines[handed], notStored: t.lines[unstored],
	}
	if g.Next == 0 {
		g.Next = t.last + 1
	}
	for _, r := range g.ConfirmedLines {
		if r.First > g.Next {
			g.outOfOrder = append(g.outOfOrder, r)
		}
	}
	return g
}

// progress says how far t came with what in yields.
func (in *pubInput) progress(endpoint string, t *tally) *progress {
	g := t.progress()
	g.GoOn = in.goOn(endpoint, g.Next)
	if in.lines == nil {
		g.noun = "BODY"
	}
	return g
}

// print says it to people.
func (g *progress) print(w io.Writer) {
	fmt.Fprintf(w, "  published %s, confirmed %s%s\n", countOf(g.Published, "message"), grouped(g.Confirmed), g.first())
	if len(g.handed) > 0 {
		fmt.Fprintf(w, "  the endpoint confirms nothing (publisher_mode: noconfirm); handed to it: %s\n", g.list(g.handed))
	}
	if g.Unknown > 0 {
		fmt.Fprintf(w, "  unknown whether stored: %s\n", g.list(g.UnknownLines))
	}
	if len(g.notStored) > 0 {
		fmt.Fprintf(w, "  not stored: %s\n", g.list(g.notStored))
	}
	fmt.Fprintf(w, "  go on with: %s\n", g.GoOn)
	if len(g.outOfOrder) > 0 {
		fmt.Fprintf(w, "  and leave out what is confirmed: %s\n", g.list(g.outOfOrder))
	}
	if g.Unknown > 0 && !g.resumes {
		fmt.Fprintln(w, "  what is unknown may then be stored twice: another run is another publisher")
	}
}

// first says that what is confirmed is the first of the input, if it is.
func (g *progress) first() string {
	switch {
	case g.Confirmed == 0:
		return ""
	case len(g.outOfOrder) > 0:
		return ": " + g.list(g.ConfirmedLines)
	}
	return fmt.Sprintf(": the first %s, %s", grouped(g.Confirmed), g.list(g.ConfirmedLines))
}

func (g *progress) list(ranges []lineRange) string {
	noun := g.noun
	if noun == "line" && (len(ranges) > 1 || ranges[0].First != ranges[0].Last) {
		noun = "lines"
	}
	texts := make([]string, len(ranges))
	for i, r := range ranges {
		texts[i] = r.String()
	}
	return noun + " " + strings.Join(texts, ", ")
}

// goOn is the command that publishes from a line or BODY on.
func (in *pubInput) goOn(endpoint string, next int) string {
	pub := "perdure pub " + word(endpoint)
	switch {
	case in.lines == nil && next > len(in.bodies):
		return "nothing; every BODY was published"
	case in.lines == nil:
		for _, body := range in.bodies[next-1:] {
			pub += " " + word(body)
		}
		return pub + in.flags
	case in.jsonl:
		pub += " --jsonl -"
	}
	file := "FILE"
	if in.file != nil {
		file = word(in.name)
	}
	return fmt.Sprintf("tail -n +%d %s | %s%s", next, file, pub, in.flags)
}

// sameFlags returns the flags that who goes on has to give again. Variables are
// still there then.
func sameFlags(cmd *cobra.Command, headers []string) string {
	var b strings.Builder
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if _, there := f.Annotations[fromVariable]; there {
			return
		}
		switch f.Name {
		case "connect", "timeout":
			fmt.Fprintf(&b, " --%s %s", f.Name, word(f.Value.String()))
		case "header":
			for _, h := range headers {
				b.WriteString(" --header " + word(h))
			}
		}
	})
	return b.String()
}
