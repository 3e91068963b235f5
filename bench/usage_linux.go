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

var errProc = errors.New("bench: /proc does not read as expected")

// ProcessUsage returns what processes have used since they began. Processes of
// other users do not show what they wrote: that is an error.
func ProcessUsage(pids ...int) (Usage, error) {
	sum := Usage{Servers: len(pids)}
	for _, pid := range pids {
		cpu, err := ProcessCPU(pid)
		if err != nil {
			return Usage{}, err
		}
		written, err := readProc(pid, "io", writtenBytes)
		if err != nil {
			return Usage{}, err
		}
		anon, err := readProc(pid, "status", func(text []byte) (int64, error) { return procValue(text, "RssAnon:") })
		if err != nil {
			return Usage{}, err
		}
		peak, err := readProc(pid, "status", func(text []byte) (int64, error) { return procValue(text, "VmHWM:") })
		if err != nil {
			return Usage{}, err
		}
		sum.CPU += cpu
		sum.Written += written
		sum.RSS, sum.PeakRSS = max(sum.RSS, anon<<10), max(sum.PeakRSS, peak<<10) // the file counts in KiB
	}
	return sum, nil
}

// ProcessCPU returns the processor time, user and system, that processes have
// used since they began.
func ProcessCPU(pids ...int) (time.Duration, error) {
	var sum time.Duration
	for _, pid := range pids {
		ticks, err := readProc(pid, "stat", cpuTicks)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(ticks) * clockTick
	}
	return sum, nil
}

func readProc(pid int, file string, parse func([]byte) (int64, error)) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return 0, fmt.Errorf("bench: what process %d uses: %w", pid, err)
	}
	return parse(text)
}

// cpuTicks returns utime + stime: the 14th and 15th field. The second one, the
// name, may contain anything; it ends with the last parenthesis.
func cpuTicks(stat []byte) (int64, error) {
	end := bytes.LastIndexByte(stat, ')')
	fields := bytes.Fields(stat[end+1:])
	if end < 0 || len(fields) < 13 {
		return 0, errProc
	}
	user, err := strconv.ParseInt(string(fields[11]), 10, 64)
	if err != nil {
		return 0, errProc
	}
	system, err := strconv.ParseInt(string(fields[12]), 10, 64)
	if err != nil {
		return 0, errProc
	}
	return user + system, nil
}

// writtenBytes returns what a process caused to be written, less what was
// deleted before it reached the disk.
func writtenBytes(io []byte) (int64, error) {
	written, err := procValue(io, "write_bytes:")
	if err != nil {
		return 0, err
	}
	cancelled, err := procValue(io, "cancelled_write_bytes:")
	return written - cancelled, err
}

// procValue returns the number behind a name that begins a line.
func procValue(text []byte, name string) (int64, error) {
	for line := range bytes.Lines(text) {
		fields := bytes.Fields(line)
		if len(fields) > 1 && string(fields[0]) == name {
			n, err := strconv.ParseInt(string(fields[1]), 10, 64)
			if err != nil {
				return 0, errProc
			}
			return n, nil
		}
	}
	return 0, errProc
}
