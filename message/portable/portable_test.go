package portable

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/message"
)

// written writes records as text.
func written(t testing.TB, f Format, records ...*Record) []byte {
	t.Helper()
	var out bytes.Buffer
	w := NewWriter(&out, f)
	for _, r := range records {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// read reads all messages of a text, and finds that Raw is the text.
func read(f Format, text []byte) (ms []*message.Message, err error) {
	r := NewReader(bytes.NewReader(text), f)
	var raw []byte
	for {
		m, err := r.Next()
		raw = append(raw, r.Raw()...)
		if err == io.EOF {
			break
		}
		if err != nil {
			return ms, err
		}
		ms = append(ms, m)
	}
	if !bytes.Equal(raw, text) {
		return ms, fmt.Errorf("raw is %q", raw)
	}
	return ms, nil
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	for _, f := range []Format{JSONLines, CSV} {
		for seed := range uint64(1000) {
			r := newRandom(seed)
			var records []*Record
			for range r.IntN(6) {
				records = append(records, r.record())
			}
			text := written(t, f, records...)
			got, err := read(f, text)
			if err != nil {
				t.Fatalf("%s, seed %d: %v in %s", f, seed, err, text)
			}
			if len(got) != len(records) {
				t.Fatalf("%s, seed %d: %d messages of %d in %s", f, seed, len(got), len(records), text)
			}
			for i := range got {
				if !got[i].Equal(records[i].Message) {
					t.Fatalf("%s, seed %d: %+v became %+v in %s", f, seed, records[i].Message, got[i], text)
				}
			}
		}
	}
}

func TestText(t *testing.T) {
	m := new(message.Message).SetString("a", "x").SetInt("n", 1).SetHeader("h", `say "hi"`)
	m.Body = []byte("two\r\nlines")
	r := &Record{Store: "flights", Durables: []string{"all", "delays"}, ID: 7, Stamp: time.Unix(1, 5), Count: 2, Message: m}
	const lines = `{"store":"flights","durables":["all","delays"],"id":7,"stamp":"1970-01-01T00:00:01.000000005Z","count":2,` +
		`"fields":{"a":"x","n":1},"headers":{"h":"say \"hi\""},"body":"two\r\nlines"}` + "\n"
	if got := string(written(t, JSONLines, r)); got != lines {
		t.Errorf("JSON Lines are\n%s, want\n%s", got, lines)
	}
	const head = "_store,_durables,_id,_stamp,_count,_key,_ttl,_deliver_at,_fields,_headers,_body,_body_base64\n"
	const rows = head + `flights,"[""all"",""delays""]",7,1970-01-01T00:00:01.000000005Z,2,,,,` +
		`"{""a"":""x"",""n"":1}","{""h"":""say \""hi\""""}","two` + "\r\n" + `lines",` + "\n"
	if got := string(written(t, CSV, r)); got != rows {
		t.Errorf("CSV is\n%s, want\n%s", got, rows)
	}
	if got := string(written(t, CSV)); got != head {
		t.Errorf("CSV of nothing is %q", got)
	}
}

func TestReadingWhatOthersWrote(t *testing.T) {
	flight := func(n int64) *message.Message {
		return new(message.Message).SetString("origin", "LAS").SetInt("delay", n)
	}
	for _, tc := range []struct {
		format Format
		text   string
		want   []*message.Message
	}{
		{JSONLines, "", nil},
		{JSONLines, "\ufeff{\"body\":\"a\"}\r\n\n  \n{}", []*message.Message{{Body: []byte("a")}, {}}},
		{Objects, `{"origin":"LAS","delay":3}` + "\n", []*message.Message{flight(3)}},
		{CSV, "", nil},
		{CSV, "\ufefforigin,delay:int64\r\nLAS,3\r\n\r\nLAS,-4", []*message.Message{flight(3), flight(-4)}},
		{CSV, `_body,a:b,"x:int64:string",_fields` + "\n" + `"a ""b""", c ,,"{""n"":1}"` + "\n",
			[]*message.Message{{Body: []byte(`a "b"`), Fields: new(message.Message).SetString("a:b", " c ").SetInt("n", 1).Fields}}},
		{CSV, "x:float64,y:bool,z:bytes,t:time\n-1e3,true,/w==,2006-01-02T15:04:05Z\n",
			[]*message.Message{new(message.Message).SetFloat("x", -1000).SetBool("y", true).SetBytes("z", []byte{255}).
				SetTime("t", time.Date(2006, 1, 2, 15, 4, 5, 0, time.UTC))}},
	} {
		got, err := read(tc.format, []byte(tc.text))
		if err != nil || len(got) != len(tc.want) {
			t.Errorf("%s %q: %d messages, %v; want %d", tc.format, tc.text, len(got), err, len(tc.want))
			continue
		}
		for i := range got {
			if !got[i].Equal(tc.want[i]) {
				t.Errorf("%s %q: message %d is %+v, want %+v", tc.format, tc.text, i, got[i], tc.want[i])
			}
		}
	}
}

func TestReadingRefuses(t *testing.T) {
	for _, tc := range []struct {
		format       Format
		text         string
		line, column int
		says         string
	}{
		{JSONLines, "{}\n\n{\"bodi\":\"\"}\n", 3, 2, `in "bodi": no such member`},
		{JSONLines, "[]", 1, 1, "expected"},
		{JSONLines, "{}\n{\"body\":\"\n", 2, 10, "not closed"},
		{Objects, "{\"a\":[1,null]}", 1, 9, "null"},
		{CSV, "_bodi\n", 1, 1, "there is no such column"},
		{CSV, "a,b,a\n", 1, 5, `"a" is there twice`},
		{CSV, "a,,b\n", 1, 3, "empty"},
		{CSV, "a,b\n1\n", 2, 1, "1 cells, and the first line names 2 columns"},
		{CSV, "a,n:int64\nx,1.5\n", 2, 3, "whole number"},
		{CSV, "a,n:bool\nx,yes\n", 2, 3, "neither true nor false"},
		{CSV, "n:float64\n1e999\n", 2, 1, "float64"},
		{CSV, "b:bytes\n?\n", 2, 1, "base64"},
		{CSV, "t:time\nnow\n", 2, 1, "no time"},
		{CSV, "a\n\xff\n", 2, 1, "not UTF-8"},
		{CSV, "a,_fields\n\"x\ny\",\"{\"\"n\"\":}\"\n", 3, 4, `at byte 6, in "n": expected a value`},
		{CSV, "\ufeffa,_b\n", 1, 3, "no such column"},
		{CSV, "a,_fields\nx,\"{\"\"a\"\":1}\"\n", 2, 3, `field "a"`},
		{CSV, "_body,_body_base64\nx,eA==\n", 2, 3, "both"},
		{CSV, "a\nb\n\"c\nd\n", 3, 0, "not closed"},
		{CSV, "a,b\n\"c\"d,\"\"\n", 2, 4, "behind a cell in quotes"},
		{CSV, "a,b\nc\"d\",\n", 2, 2, "a quote in a cell without quotes"},
		{CSV, "_ttl\n-1s\n", 2, 1, "above 0"},
		{CSV, "_deliver_at\nnow\n", 2, 1, "no time"},
		{CSV, "_key\n\xff\n", 2, 1, "not UTF-8"},
		{CSV, "_headers\n{}x\n", 2, 1, "after the object"},
	} {
		_, err := read(tc.format, []byte(tc.text))
		var at *Error
		if !errors.As(err, &at) || at.Line != tc.line || at.Column != tc.column || !strings.Contains(at.Error(), tc.says) {
			t.Errorf("%s %q: %v; want line %d, column %d, %q", tc.format, tc.text, err, tc.line, tc.column, tc.says)
		}
	}
}

// TestReaderGoesOn reads what follows a line that is wrong.
func TestReaderGoesOn(t *testing.T) {
	r := NewReader(strings.NewReader("a\n\"b\nc\"\n\"d\"e\nf\n"), CSV)
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	if first, last := r.Line(); first != 2 || last != 3 {
		t.Errorf("lines %d to %d", first, last)
	}
	if _, err := r.Next(); err == nil {
		t.Fatal("no error")
	}
	m, err := r.Next()
	if v, _ := m.Get("a"); err != nil || !v.Equal(message.String("f")) {
		t.Errorf("%+v, %v", m, err)
	}
}

// endless is a text whose only line never ends.
type endless struct{ n int }

func (e *endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	e.n += len(b)
	return len(b), nil
}

func TestARecordHasALimit(t *testing.T) {
	in := &endless{}
	r := NewReader(in, JSONLines)
	r.limit = 1 << 20
	if _, err := r.Next(); !errors.Is(err, message.ErrTooLarge) || in.n > 2<<20 {
		t.Errorf("%v after %d bytes", err, in.n)
	}
}

func FuzzReader(f *testing.F) {
	for seed := range uint64(20) {
		for i, format := range []Format{JSONLines, CSV} {
			f.Add(written(f, format, newRandom(seed).record(), newRandom(seed+100).record()), uint8(i))
		}
	}
	f.Add([]byte("a,b:int64,_fields\n\"x\ny\",1,\"{\"\"c\"\":1}\"\r\n"), uint8(1))
	f.Add([]byte(`{"a":[1,2.5],"b":null}`), uint8(2))
	f.Fuzz(func(t *testing.T, text []byte, format uint8) {
		f := []Format{JSONLines, CSV, Objects}[format%3]
		ms, err := read(f, text)
		if at := new(Error); err != nil && !errors.As(err, &at) {
			t.Fatalf("untyped error %v", err)
		}
		var records []*Record
		for _, m := range ms {
			records = append(records, &Record{Message: m})
		}
		for _, f := range []Format{JSONLines, CSV} {
			again, err := read(f, written(t, f, records...))
			if err != nil || len(again) != len(ms) {
				t.Fatalf("%s: %d messages became %d, %v", f, len(ms), len(again), err)
			}
			for i := range ms {
				if !again[i].Equal(ms[i]) {
					t.Fatalf("%s: %+v became %+v", f, ms[i], again[i])
				}
			}
		}
	})
}
