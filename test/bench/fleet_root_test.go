//go:build bench

package bench

import (
	"path/filepath"
	"testing"
	"time"

	"ferry/test/cluster"
	"ferry/test/daemon"
	"ferry/test/instance"
)

// A fleetRoot is the root of a fleet: one process with SQLite and files, or several processes with
// PostgreSQL and an object store. Children connect to the processes themselves, because a proxy would need
// more files than one process may open.
type fleetRoot struct {
	processes []*cluster.Process
	cluster   *cluster.Cluster // nil if there is one process
}

func startFleetRoot(t *testing.T, processes int, args []string) fleetRoot {
	t.Helper()
	if processes > 1 {
		c := cluster.Start(t, cluster.Options{Processes: processes, Args: args, Direct: true})
		return fleetRoot{c.Processes, c}
	}
	p := cluster.NewProcess(instance.Options{
		DataDir: filepath.Join(t.TempDir(), "data"), Listen: daemon.FreeAddress(t), Args: args,
	})
	p.Start(t)
	return fleetRoot{processes: []*cluster.Process{p}}
}

// clients returns the root as clients reach it. It is for logins only.
func (r fleetRoot) clients() *instance.Instance {
	if r.cluster != nil {
		return r.cluster.Root()
	}
	return r.processes[0].Instance
}

// hosts returns the address of each process.
func (r fleetRoot) hosts() (hosts []string) {
	for _, p := range r.processes {
		hosts = append(hosts, p.Host)
	}
	return hosts
}

// restart starts all processes anew.
func (r fleetRoot) restart(t *testing.T) {
	t.Helper()
	for _, p := range r.processes {
		p.Stop(t)
		p.Start(t)
	}
}

// memory is [memoryOf] of all processes.
func (r fleetRoot) memory(t *testing.T, field string) (n int64) {
	t.Helper()
	for _, p := range r.processes {
		n += memoryOf(t, p.PID(), field)
	}
	return n
}

// cpu is [cpuOf] of all processes.
func (r fleetRoot) cpu(t *testing.T) (d time.Duration) {
	t.Helper()
	for _, p := range r.processes {
		d += cpuOf(t, p.PID())
	}
	return d
}

// databaseCPU returns the CPU time of PostgreSQL, without the connections that have ended; 0 if there
// is none.
func (r fleetRoot) databaseCPU() (d time.Duration) {
	if r.cluster == nil {
		return 0
	}
	for _, pid := range r.cluster.Database.PIDs() {
		if used, err := cpuTime(pid); err == nil { // it may have ended
			d += used
		}
	}
	return d
}
