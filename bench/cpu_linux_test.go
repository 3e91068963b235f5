package bench

import (
	"errors"
	"os"
	"testing"
)

func TestCPUTicks(t *testing.T) {
	for _, tc := range []struct {
		name, stat string
		want       uint64
		err        error
	}{
		{"plain", "17 (perdure) S 1 17 17 0 -1 4194560 1 0 0 0 250 50 0 0 20 0", 300, nil},
		{"a name with everything", "17 (a) (b c) S 1 17 17 0 -1 4194560 1 0 0 0 7 8 0 0 20 0", 15, nil},
		{"cut off", "17 (perdure) S 1 17", 0, errStat},
		{"no name", "17", 0, errStat},
		{"no number", "17 (perdure) S 1 17 17 0 -1 4194560 1 0 0 0 x 50 0 0 20 0", 0, errStat},
		{"empty", "", 0, errStat},
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
