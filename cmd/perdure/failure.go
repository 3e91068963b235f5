package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	perdurepb "github.com/perdure/perdure/api/perdure/v1"
	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/realm"
	"github.com/perdure/perdure/store/statefile"
)

// Reasons of the command line's own, beside those that servers and the client
// give.
const (
	reasonUsage       = "USAGE"
	reasonFailed      = "FAILED"
	reasonInterrupted = "INTERRUPTED"
	reasonTimeout     = "TIMEOUT"
	reasonRealm       = "REALM_INVALID"
	reasonLost        = "LOST"
	reasonWouldDelete = "WOULD_DELETE"
	reasonDifferent   = "DIFFERENT"
)

// ownReasons are the reasons that no server gives.
var ownReasons = []string{
	reasonUsage, reasonFailed, reasonInterrupted, reasonTimeout, reasonLost, reasonWouldDelete,
	"UNAVAILABLE", "CLOSED", "WINDOW_FULL", "NOT_FOUND",
}

// usageError says that the command was asked wrongly.
type usageError struct {
	command string
	err     error
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(cmd *cobra.Command, format string, args ...any) error {
	return &usageError{cmd.CommandPath(), fmt.Errorf(format, args...)}
}

// failure is an error with a reason of its own.
type failure struct {
	reason string
	err    error
}

func (e *failure) Error() string { return e.err.Error() }
func (e *failure) Unwrap() error { return e.err }

func failuref(reason, format string, args ...any) error {
	return &failure{reason, fmt.Errorf(format, args...)}
}

// said is an error that was reported already: it only sets the exit code.
type said struct{ err error }

func (e *said) Error() string { return e.err.Error() }
func (e *said) Unwrap() error { return e.err }

// invalidRealm says that a definition is wrong by itself.
type invalidRealm struct {
	file     string
	problems realm.Problems
}

func (e *invalidRealm) Error() string {
	return fmt.Sprintf("%s is not a valid definition: %s", e.file, countOf(len(e.problems), "problem"))
}

// complaint is an error as JSON shows it.
type complaint struct {
	Reason    string           `json:"reason"`
	Message   string           `json:"message"`
	Retryable bool             `json:"retryable"`
	Leader    *client.Leader   `json:"leader,omitempty"`
	Problems  []client.Problem `json:"problems,omitempty"`
	Deletes   []deletion       `json:"deletes,omitempty"` // of WOULD_DELETE

	*progress // of a pub that stopped on its way
}

// fail reports err on standard error and returns the exit code.
func (p *program) fail(cmd *cobra.Command, err error) int {
	code := exitFailed
	var usage *usageError
	if errors.As(err, &usage) {
		code = exitUsage
	}
	var done *said
	if errors.As(err, &done) {
		return code
	}
	c := describe(err)
	if p.wantsJSON(cmd) {
		p.writeJSON(p.stderr, map[string]complaint{"error": c})
		return code
	}
	text := c.Message
	if usage != nil {
		text += "; see " + usage.command + " --help"
	}
	var invalid *invalidRealm
	if errors.As(err, &invalid) {
		for _, problem := range invalid.problems {
			fmt.Fprintln(p.stderr, problem.String())
		}
		c.Problems = nil // shown, as validate does
	}
	fmt.Fprintf(p.stderr, "perdure: %s (%s)\n", text, c.Reason)
	for _, problem := range c.Problems {
		fmt.Fprintf(p.stderr, "  %s\n", problemLine("", problem))
	}
	if c.progress != nil {
		c.progress.print(p.stderr)
	}
	for _, d := range c.Deletes {
		fmt.Fprintf(p.stderr, "  %s: %s\n", d.Path, d.holding)
	}
	return code
}

// describe finds the reason of an error.
func describe(err error) complaint {
	c := complaint{Reason: reasonFailed, Message: err.Error()}
	var usage *usageError
	var own *failure
	var answered *client.Error
	var problems *realm.Problems
	var invalid *invalidRealm
	var deletes *wouldDelete
	var state *statefile.Error
	switch {
	case errors.As(err, &usage):
		c.Reason = reasonUsage
	case errors.As(err, &own):
		c.Reason = own.reason
	case errors.As(err, &state):
		c.Reason = "STATE_" + string(state.Code)
	case errors.Is(err, context.Canceled):
		if c.Reason = reasonInterrupted; !errors.As(err, &answered) { // what was heard before says more
			c.Message = "interrupted"
		}
	case errors.As(err, &answered):
		c.Reason, c.Retryable, c.Leader, c.Problems = answered.Reason, answered.Retryable, answered.Leader, answered.Problems
	case errors.As(err, &deletes):
		c.Reason, c.Retryable, c.Deletes = reasonWouldDelete, deletes.unknown(), deletes.deletes
	case errors.As(err, &invalid):
		c.Reason, c.Problems = reasonRealm, fromRealm(invalid.problems)
	case errors.As(err, &problems):
		c.Reason, c.Problems = reasonRealm, fromRealm(*problems)
	case errors.Is(err, context.DeadlineExceeded):
		c.Reason, c.Retryable = reasonTimeout, true
	}
	var part *partly
	if errors.As(err, &part) {
		c.progress = part.done
	}
	// An outcome that is not known matters more than why.
	if errors.Is(err, client.ErrOutcomeUnknown) {
		c.Reason = "OUTCOME_UNKNOWN"
	}
	c.Message = plainText(c.Message)
	c.Message = strings.ReplaceAll(c.Message, "\n", "; ")
	return c
}

// dialing is what gRPC says of a server that does not take connections, around
// the reason.
var dialing = regexp.MustCompile(`connection error: desc = "transport: (?:Error while dialing: )?(?:dial tcp [^ ]+: )?(?:connect: )?([^"]*)"`)

// plainText leaves out what says nothing to people: names of packages, codes,
// one of which is shown anyway, what is said twice in a row, and gRPC's frame.
func plainText(text string) string {
	text = dialing.ReplaceAllString(text, "$1")
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		var kept []string
		for part := range strings.SplitSeq(line, ": ") {
			_, code := perdurepb.Reason_value["REASON_"+part]
			code = code || slices.Contains(ownReasons, part) || part == "client" || part == "message"
			if !code && (len(kept) == 0 || kept[len(kept)-1] != part) {
				kept = append(kept, part)
			}
		}
		lines[i] = strings.Join(kept, ": ")
	}
	return strings.Join(lines, "\n")
}

func fromRealm(problems realm.Problems) []client.Problem {
	out := make([]client.Problem, len(problems))
	for i, p := range problems {
		out[i] = client.Problem{Line: p.Line, Column: p.Column, Path: p.Path, Message: p.Message, Warning: p.Warning}
	}
	return out
}

// problemLine writes a problem the way compilers do.
func problemLine(file string, p client.Problem) string {
	return realm.Problem{File: file, Line: p.Line, Column: p.Column, Path: p.Path, Message: p.Message, Warning: p.Warning}.String()
}

// wantsJSON tells the output format also where parsing ended before -o.
func (p *program) wantsJSON(cmd *cobra.Command) bool {
	if cmd != nil {
		if f := cmd.Flags().ShorthandLookup("o"); f != nil && f.Changed {
			return f.Value.String() == string(formatJSON)
		}
	}
	for i, arg := range p.args {
		if arg == "--" {
			break
		}
		if slices.Contains([]string{"-ojson", "-o=json", "--output=json"}, arg) {
			return true
		}
		if (arg == "-o" || arg == "--output") && i+1 < len(p.args) && p.args[i+1] == "json" {
			return true
		}
	}
	value, _ := lookup(p.environ, variable("output"))
	return value == string(formatJSON)
}

// writeJSON writes one indented document.
func (p *program) writeJSON(w interface{ Write([]byte) (int, error) }, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
