package bench

import (
	"errors"
	"os"
	"testing"
)

func TestCPUTicks(t *testing.T) {
	for _, tc := range []struct {
		name, stat string
		want       int64
		err        error
	}{
		{"plain", "17 (perdure) S 1 17 17 0 -1 4194560 1 0 0 0 250 50 0 0 20 0", 300, nil},
		{"a name with everything", "17 (a) (b c) S 1 17 17 0 -1 4194560 1 0 0 0 7 8 0 0 20 0", 15, nil},
		{"cut off", "17 (perdure) S 1 17", 0, errProc},
		{"no name", "17", 0, errProc},
		{"no number", "17 (perdure) S 1 17 17 0 -1 4194560 1 0 0 0 x 50 0 0 20 0", 0, errProc},
		{"empty", "", 0, errProc},
	} {
		got, err := cpuTicks([]byte(tc.stat))
		if got != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("%s: %d, %v; want %d, %v", tc.name, got, err, tc.want, tc.err)
		}
	}
}

func TestProcessCPU(t *testing.T) {
	if _, err := ProcessCPU(os.Getpid()); err != nil {
		t.Error(err)
	}
	if _, err := ProcessCPU(os.Getpid(), -1); err == nil {
		t.Error("a process that does not exist has used some time")
	}
}

func TestWrittenBytes(t *testing.T) {
	for _, tc := range []struct {
		name, io string
		want     int64
		err      error
	}{
		{"plain", "rchar: 9\nwchar: 8\nwrite_bytes: 700\ncancelled_write_bytes: 50\n", 650, nil},
		{"nothing cancelled", "write_bytes: 700\ncancelled_write_bytes: 0\n", 700, nil},
		{"cut off", "write_bytes: 700\n", 700, errProc},
		{"no number", "write_bytes: x\ncancelled_write_bytes: 0\n", 0, errProc},
		{"empty", "", 0, errProc},
	} {
		got, err := writtenBytes([]byte(tc.io))
		if got != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("%s: %d, %v; want %d, %v", tc.name, got, err, tc.want, tc.err)
		}
	}
}

func TestProcessUsage(t *testing.T) {
	u, err := ProcessUsage(os.Getpid(), os.Getpid())
	if err != nil || u.RSS == 0 || u.PeakRSS < u.RSS || u.Servers != 2 {
		t.Errorf("%+v, %v", u, err)
	}
	if _, err := ProcessUsage(-1); err == nil {
		t.Error("a process that does not exist has used some memory")
	}
}
