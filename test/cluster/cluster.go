package cluster

import (
	"crypto/rand"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ferry/internal/metadb/dbtest"
	"ferry/test/instance"
)

// A Cluster is a root of several processes.
type Cluster struct {
	Database  *dbtest.Server
	Store     *Store
	Proxy     *Proxy
	Processes []*Process

	database, prefix string // of this cluster
	secret           string // file with the secret of all processes
}

// Options say how to start a cluster. The zero value has two processes.
type Options struct {
	Processes int // default 2; one of them is no cluster
	Mode      Mode
	Program   string   // default that of [instance.Binary]
	Args      []string // more arguments for `ferry serve`
	DataDir   string   // of the first process; default a new one
	Direct    bool     // the processes reach the store without the proxy that causes faults
}

// Prefix is where a new cluster keeps its objects, below [Bucket].
const Prefix = "root"

// Start starts a PostgreSQL, a store, the processes and the proxy. All of them end with the test.
func Start(t testing.TB, o Options) *Cluster {
	t.Helper()
	c := &Cluster{Database: dbtest.NewServer(t), Store: StartStore(t), database: "ferry", prefix: Prefix}
	c.Database.Create(t, c.database)
	c.secret = filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(c.secret, []byte(rand.Text()+rand.Text()), 0o600); err != nil {
		t.Fatal(err)
	}
	c.serve(t, o)
	return c
}

// serve starts the processes and the proxy.
func (c *Cluster) serve(t testing.TB, o Options) {
	t.Helper()
	if o.Processes == 0 {
		o.Processes = 2
	}
	var hosts []string
	for i := range o.Processes {
		p := &Process{options: instance.Options{
			DataDir: filepath.Join(t.TempDir(), "data"), Program: o.Program, Args: o.Args,
			Env: append(c.Store.Env(c.prefix), "FERRY_DATABASE="+c.Database.URL(c.database)),
		}}
		if o.Direct {
			p.options.Env = append(p.options.Env, "FERRY_BLOBS_ENDPOINT="+c.Store.Direct)
		}
		if o.Processes > 1 {
			p.options.Env = append(p.options.Env, "FERRY_CLUSTER_SECRET_FILE="+c.secret)
		}
		if i == 0 && o.DataDir != "" {
			p.options.DataDir = o.DataDir
		}
		p.Start(t)
		c.Processes = append(c.Processes, p)
		hosts = append(hosts, p.Host)
	}
	c.Proxy = StartProxy(t, o.Mode, hosts...)
}

// PIDs returns the ids of the processes.
func (c *Cluster) PIDs() (pids []int) {
	for _, p := range c.Processes {
		pids = append(pids, p.PID())
	}
	return pids
}

// AwaitReady waits until each process that runs says that it is ready, so that it knows what the others
// have changed.
func (c *Cluster) AwaitReady(t testing.TB) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for _, p := range c.Processes {
		for begun := time.Now(); p.Running(); <-tick.C {
			if resp, err := http.Get(p.URL + "/health/ready"); err == nil {
				resp.Body.Close()
				if resp.StatusCode == http.StatusOK {
					break
				}
			}
			if time.Since(begun) > time.Minute {
				t.Fatalf("%s is not ready", p.URL)
			}
		}
	}
}

// Root returns the first process, which has the administrator's password, with the address of the
// proxy. It is for logins only: it is no process.
func (c *Cluster) Root() *instance.Instance {
	return &instance.Instance{
		DataDir: c.Processes[0].DataDir, URL: "http://" + c.Proxy.Host, Host: c.Proxy.Host,
	}
}

// A Process is one `ferry serve` of a cluster. It can be killed and started again, at the same
// address.
type Process struct {
	*instance.Instance
	options instance.Options
}

// NewProcess returns a process that has not started.
func NewProcess(o instance.Options) *Process { return &Process{options: o} }

// Start starts the process for the first time, or after it has ended.
func (p *Process) Start(t testing.TB) {
	t.Helper()
	p.Instance = instance.Start(t, p.options)
	p.options.Listen = p.Host
}

// Update starts the process with the default program, after another one has ended.
func (p *Process) Update(t testing.TB) {
	t.Helper()
	p.options.Program = ""
	p.Start(t)
}
