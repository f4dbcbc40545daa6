package cluster

import (
	"fmt"
	"path/filepath"
	"testing"

	"ferry/internal/metadb/dbtest"
	"ferry/test/instance"
)

// A Cluster is a root of several processes.
type Cluster struct {
	Database  *dbtest.Server
	Store     *Store
	Proxy     *Proxy
	Processes []*Process
}

// Options say how to start a cluster. The zero value has one process.
type Options struct {
	Processes int // default 1
	Mode      Mode
	Program   string   // default that of [instance.Binary]
	Args      []string // more arguments for `ferry serve`
}

// databaseName is the name of a cluster's database.
const databaseName = "ferry"

// Start starts a PostgreSQL, a store, the processes and the proxy. All of them end with the test.
func Start(t testing.TB, o Options) *Cluster {
	t.Helper()
	c := &Cluster{Database: dbtest.NewServer(t), Store: StartStore(t)}
	c.Database.Create(t, databaseName)
	c.serve(t, o)
	return c
}

// serve starts the processes and the proxy.
func (c *Cluster) serve(t testing.TB, o Options) {
	t.Helper()
	if o.Processes == 0 {
		o.Processes = 1
	}
	var hosts []string
	for range o.Processes {
		p := &Process{options: instance.Options{
			DataDir: filepath.Join(t.TempDir(), "data"), Program: o.Program, Args: o.Args,
			Env: []string{"FERRY_DATABASE=" + c.Database.URL(databaseName)},
		}}
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

// Start starts the process for the first time, or after it has ended.
func (p *Process) Start(t testing.TB) {
	t.Helper()
	p.Instance = instance.Start(t, p.options)
	p.options.Listen = p.Host
}

// credentialsFile is a file in Amazon's form.
var credentialsFile = fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n",
	AccessKey, SecretKey)
