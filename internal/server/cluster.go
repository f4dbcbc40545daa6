package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"ferry/internal/auth"
	"ferry/internal/config"
	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/retry"
	"ferry/internal/seal"
	"ferry/internal/wire"
)

// A cluster connects the processes that serve one root. They have the database and the blobs in
// common, and nothing else. nil is a process alone.
type cluster struct {
	locks    *metadb.Session
	follower *metadb.Follower
	leads    atomic.Bool // this process does the work that only one may do
	secret   []byte      // that all processes have
	key      *seal.Key   // for requests that are passed on

	failures        failedLogins
	management      http.Handler // of this process
	asked, answered retry.Signal // another process has asked, or answered
}

// minSecret is the smallest size of the secret of all processes, in bytes.
const minSecret = 32

const hintSecret = "make one, and give it to every process of the root: openssl rand -hex 32 >FILE, then " +
	"--cluster-secret-file FILE"

// readSecret returns the secret in a file.
func readSecret(path string) ([]byte, error) {
	if path == "" {
		return nil, withHint(errors.New("cluster-secret-file is missing, which a root of several processes needs"),
			hintSecret)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, withHint(fmt.Errorf("read the secret of the cluster: %w", err), hintSecret)
	}
	text = bytes.TrimSpace(text)
	if len(text) < minSecret {
		return nil, withHint(fmt.Errorf("read the secret of the cluster: %s has less than %d bytes", path, minSecret),
			hintSecret)
	}
	return text, nil
}

// signer returns the signer of tokens.
func (in *instance) signer() (*auth.Signer, error) {
	if in.cluster == nil {
		return in.dir.signer()
	}
	key, err := auth.DeriveSigningKey(in.cluster.secret)
	if err != nil {
		return nil, err
	}
	return auth.NewSigner(key, time.Now)
}

// sealKey returns the key that encrypts secrets in the database: of the file in the data directory or, in
// a cluster, of the secret of all processes. todo says what to do when the file is lost.
func (in *instance) sealKey(cfg config.Config, file, todo string) (*seal.Key, error) {
	if in.cluster != nil {
		return seal.DeriveKey(in.cluster.secret, file)
	}
	in.dir.warnMissingKey(file, todo)
	return seal.OpenKey(cfg.DataDir, file)
}

// leaderOf is the name of the lock of the process that does what only one process may do at a time.
const leaderOf = "jobs"

// checkCluster returns an error if the settings are not those of a root of several processes.
func checkCluster(cfg config.Config, parent *wire.ConnectionString, shared bool) error {
	switch {
	case parent != nil:
		return withHint(errors.New("cluster-secret-file is for a root; a connected registry is one process"),
			"leave --cluster-secret-file out")
	case !isPostgres(cfg) || !shared:
		return withHint(errors.New("a root of several processes needs a database and blobs that they share"),
			"give --database postgres://... and --blobs s3://..., or leave --cluster-secret-file out")
	case cfg.TLSMode() == config.TLSOwnCA, cfg.TLSMode() == config.TLSACME:
		return withHint(fmt.Errorf("tls %s is for one process: each process of a cluster would have "+
			"certificates of its own", cfg.TLSMode()), "give all processes the same --tls-cert and --tls-key, or let "+
			"the load balancer speak TLS")
	}
	return nil
}

func isPostgres(cfg config.Config) bool { return strings.HasPrefix(cfg.Database, "postgres") }

// openCluster makes this process one of a cluster, if the settings have a secret of one: the database
// records changes for other processes, and this one begins to follow theirs. It must be called
// before anything of the database is kept in memory.
func (in *instance) openCluster(
	ctx context.Context, cfg config.Config, parent *wire.ConnectionString, shared bool,
) (err error) {
	if cfg.ClusterSecretFile == "" {
		return nil
	}
	if err := checkCluster(cfg, parent, shared); err != nil {
		return err
	}
	c := &cluster{locks: in.db.NewSession()}
	in.cluster = c
	if c.secret, err = readSecret(cfg.ClusterSecretFile); err != nil {
		return err
	}
	in.db.Share()
	if c.key, err = seal.DeriveKey(c.secret, "requests between processes"); err != nil {
		return err
	}
	if c.follower, err = in.db.Follow(ctx, in.log); err != nil {
		return err
	}
	return nil
}

// locks returns the locks that other processes respect; nil if there is no other process.
func (in *instance) locks() *metadb.Session {
	if in.cluster == nil {
		return nil
	}
	return in.cluster.locks
}

// followOthers brings everything that this process keeps in memory to the changes of other processes. The
// control plane comes first, because the others read it.
func (in *instance) followOthers() {
	if in.cluster == nil {
		return
	}
	f := in.cluster.follower
	f.Apply(in.control.Follow)
	f.Apply(in.fleet.Follow)
	f.Apply(in.storage.Follow)
	f.Apply(in.events.Follow)
	f.Apply(func(_ *metadb.Tx, c metadb.Changes) error {
		if c.Has(metadb.RuleTopic) {
			in.mirrors.Wake()
			in.retention.Wake()
		}
		if c.Has(metadb.ImportTopic) {
			in.mirrors.Wake()
		}
		in.countFailures(c)
		if c.Has(metadb.QuestionTopic) {
			in.cluster.asked.Notify()
		}
		if c.Has(metadb.AnswerTopic) {
			in.cluster.answered.Notify()
		}
		return nil
	})
}

// close ends the connections to the database.
func (c *cluster) close() error {
	if c == nil {
		return nil
	}
	err := c.locks.Close()
	if c.follower != nil {
		err = errors.Join(err, c.follower.Close())
	}
	return err
}

// current returns h for requests that must see all that other processes have acknowledged before. While
// the database does not answer, h serves what this process has in memory. If the changes of others
// cannot be read for any other reason, requests are refused.
func (c *cluster) current(h http.Handler) http.Handler {
	if c == nil {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := c.follower.CatchUp(r.Context()) // the follower logs that it fails
		if err != nil && !errors.Is(err, metadb.ErrUnavailable) {
			oci.WriteError(w, oci.ErrUnavailable)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// isLeader reports whether this process does what only one process may do at a time.
func (c *cluster) isLeader() bool { return c == nil || c.leads.Load() }

// runJobs runs the jobs until ctx ends: of several processes, only one does so at a time. Another one
// takes over from a process that ends, or that loses its connection to the database.
func (in *instance) runJobs(ctx context.Context, jobs ...func(context.Context) error) error {
	run := func(ctx context.Context) error {
		all, ctx := errgroup.WithContext(ctx)
		for _, job := range jobs {
			all.Go(func() error { return job(ctx) })
		}
		return all.Wait()
	}
	c := in.cluster
	if c == nil {
		return run(ctx)
	}
	jobs = append(jobs, in.answer)
	err := c.locks.Lead(ctx, leaderOf, func(ctx context.Context) error {
		in.scrub.Continue(ctx)
		in.log.Info("this process collects garbage, scrubs, mirrors, imports and delivers events now")
		c.leads.Store(true)
		defer c.leads.Store(false)
		return run(ctx)
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}
