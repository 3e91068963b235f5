package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

// clockTick is the unit of /proc/PID/stat: USER_HZ is 100 on every architecture
// that Linux has.
const clockTick = 10 * time.Millisecond

var errStat = errors.New("bench: /proc does not read as expected")

// ProcessCPU returns the processor time, user and system, that processes have
// used since they began.
func ProcessCPU(pids ...int) (time.Duration, error) {
	var sum time.Duration
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, fmt.Errorf("bench: processor time of process %d: %w", pid, err)
		}
		ticks, err := cpuTicks(stat)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(ticks) * clockTick
	}
	return sum, nil
}

// cpuTicks returns utime + stime: the 14th and 15th field. The second one, the
// name, may contain anything; it ends with the last parenthesis.
func cpuTicks(stat []byte) (uint64, error) {
	end := bytes.LastIndexByte(stat, ')')
	fields := bytes.Fields(stat[end+1:])
	if end < 0 || len(fields) < 13 {
		return 0, errStat
	}
	user, err := strconv.ParseUint(string(fields[11]), 10, 64)
	if err != nil {
		return 0, errStat
	}
	system, err := strconv.ParseUint(string(fields[12]), 10, 64)
	if err != nil {
		return 0, errStat
	}
	return user + system, nil
}
