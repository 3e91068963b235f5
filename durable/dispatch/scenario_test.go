package dispatch

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/perdure/perdure/message"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the expected output in testdata")

// TestScenarios runs the files in testdata. A line that is not indented is a
// command; the indented lines after it are what it must print. Commands are the
// cases of script.run; times are in multiples of DelayStep.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := runScript(t, string(want))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(want) {
				t.Errorf("%s prints\n%s\nrun with -rewrite and look at the difference", file, got)
			}
		})
	}
}

// script is a scenario that runs.
type script struct {
	rec  *record
	d    *Dispatcher
	args []string
	out  strings.Builder
}

func runScript(t *testing.T, text string) string {
	s := &script{rec: newRecord()}
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		line := lines.Text()
		if strings.HasPrefix(line, "  ") {
			continue
		}
		s.out.WriteString(line + "\n")
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		s.args = words[1:]
		if err := s.run(words[0]); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if err := s.d.check(s.rec); err != nil {
			t.Fatalf("after %q: %v", line, err)
		}
	}
	return s.out.String()
}

func (s *script) run(verb string) error {
	switch verb {
	case "standard": // a new leader's dispatcher over the same record
		s.d = New(Standard, s.rec)
	case "shared":
		s.d = New(Shared, s.rec)
	case "publish": // batches, messages in each, bytes of each message
		for range s.num(0) {
			s.rec.publish(int(s.num(1)), uint32(s.num(1)*s.num(2)), nil)
		}
		s.d.Added()
	case "attach": // subscriber, messages, bytes
		if err := s.d.Attach(s.num(0), Credit{s.num(1), s.num(2)}); errors.Is(err, ErrAttached) {
			s.print("%v", err)
		}
	case "grant":
		s.d.Grant(s.num(0), Credit{s.num(1), s.num(2)})
	case "detach":
		s.print("release %v", s.d.Detach(s.num(0), nil))
	case "ack": // subscriber, range
		first, last := s.ids(1)
		runs, verdict := s.d.Ack(s.num(0), first, last, nil)
		s.print("settle %v, %s", runs, [...]string{"ok", "not owner"}[verdict])
	case "nack": // subscriber, range, not before
		first, last := s.ids(1)
		runs, verdict := s.d.Nack(s.num(0), first, last, int64(s.num(2))*DelayStep, nil)
		s.print("release %v, %s", runs, [...]string{"ok", "not owner"}[verdict])
	case "settled": // a settlement was applied
		s.rec.remove(s.ids(0))
		s.d.Gone(s.ids(0))
	case "vanish": // removed, and the dispatcher is not told
		s.rec.remove(s.ids(0))
	case "released": // a release was applied
		s.rec.release(s.ids(0))
		s.d.Released(s.ids(0))
	case "watermark": // what is wanted; with a number, what is applied
		s.rec.raise(message.ID(s.num(0)))
		if w, ok := s.d.WantWatermark(); ok {
			s.print("wants %v", w)
		}
	case "next":
		s.deliver()
	case "where":
		s.print("%+v", s.d.Held())
	default:
		return errors.New("no such command")
	}
	return nil
}

func (s *script) deliver() {
	for _, d := range s.d.Next(int64(s.num(0))*DelayStep, nil) {
		whole, counted := "", ""
		if d.Whole() {
			whole = ", whole batch"
		}
		if d.Counted {
			counted = ", counted"
		}
		s.print("to %d: %v (first, last, ended) for %d bytes%s%s", d.Sub, d.Spans, d.Bytes, whole, counted)
	}
	if due := s.d.Deadline(); due > 0 {
		s.print("deadline %d", due/DelayStep)
	}
}

func (s *script) print(format string, args ...any) {
	fmt.Fprintf(&s.out, "  "+format+"\n", args...)
}

// num is argument i, 0 if it is not there.
func (s *script) num(i int) uint64 {
	if i >= len(s.args) {
		return 0
	}
	n, err := strconv.ParseUint(s.args[i], 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

// ids is argument i as a range.
func (s *script) ids(i int) (first, last message.ID) {
	a, b, ok := strings.Cut(s.args[i], "-")
	if !ok {
		b = a
	}
	lo, err := strconv.ParseUint(a, 10, 64)
	hi, err2 := strconv.ParseUint(b, 10, 64)
	if err != nil || err2 != nil {
		panic(s.args[i])
	}
	return message.ID(lo), message.ID(hi)
}
