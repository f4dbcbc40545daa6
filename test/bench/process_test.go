//go:build bench

package bench

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// memoryOf returns the memory of a process, in bytes, from a field of /proc/PID/status: VmRSS is
// the resident memory, VmHWM its maximum.
func memoryOf(t *testing.T, pid int, field string) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^` + field + `:\s+(\d+) kB$`).FindSubmatch(text)
	if m == nil {
		t.Fatalf("no %s in\n%s", field, text)
	}
	n, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}

// cpuOf returns the CPU time of a process, user and system. It reads the process's clock, which
// counts nanoseconds; /proc/PID/stat would count hundredths of a second.
func cpuOf(t *testing.T, pid int) time.Duration {
	t.Helper()
	used, err := cpuTime(pid)
	if err != nil {
		t.Fatalf("read processor time of %d: %v", pid, err)
	}
	return used
}

// cpuTime is [cpuOf] for a process that may have ended.
func cpuTime(pid int) (time.Duration, error) {
	var now unix.Timespec
	err := unix.ClockGettime(int32(^pid<<3|2), &now) // clock_getcpuclockid(3)
	return time.Duration(now.Nano()), err
}

// raiseFileLimit allows this process, and those that it starts, n open files each.
func raiseFileLimit(t *testing.T, n uint64) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	limit.Cur, limit.Max = max(limit.Cur, n), max(limit.Max, n)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatalf("allow %d open files: %v; try ulimit -n %d", n, err, n)
	}
}
