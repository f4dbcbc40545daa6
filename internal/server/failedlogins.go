package server

import (
	"context"
	"fmt"
	"sync"
	"time"

	"ferry/internal/metadb"
)

const (
	failuresPause = 250 * time.Millisecond // between two announcements of failed logins
	maxSenders    = 500                    // in one announcement; failures of others count here only
)

// failedLogins are the failed logins of which other processes have not heard yet, by sender. They count
// failures of a sender, too, so that a guesser gains nothing by asking several processes. The zero value
// is ready.
type failedLogins struct {
	mu       sync.Mutex
	bySender map[string]int
}

func (f *failedLogins) add(sender string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.bySender == nil {
		f.bySender = map[string]int{}
	}
	if _, known := f.bySender[sender]; known || len(f.bySender) < maxSenders {
		f.bySender[sender]++
	}
}

func (f *failedLogins) take() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	taken := f.bySender
	f.bySender = nil
	return taken
}

// loginFailed records a refused login.
func (in *instance) loginFailed(ctx context.Context, sender, name string) {
	if in.cluster != nil {
		in.cluster.failures.add(sender)
	}
	in.control.LoginFailed(ctx, sender, name)
}

// announceFailures tells other processes of failed logins until ctx ends.
func (in *instance) announceFailures(ctx context.Context) error {
	tick := time.NewTicker(failuresPause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		failures := in.cluster.failures.take()
		if len(failures) == 0 {
			continue
		}
		at := time.Now().UnixNano() // because equal changes count once
		err := in.db.Update(ctx, func(tx *metadb.Tx) error {
			for sender, n := range failures {
				tx.Changed(metadb.LoginTopic, fmt.Sprintf("%d %s %d", n, sender, at))
			}
			return nil
		})
		if err != nil && ctx.Err() == nil {
			in.log.Warn("failed logins are not announced to other processes", "err", err)
		}
	}
}

// countFailures counts the failed logins at other processes.
func (in *instance) countFailures(c metadb.Changes) {
	for _, name := range c.Names(metadb.LoginTopic) {
		var n int
		var sender string
		if _, err := fmt.Sscan(name, &n, &sender); err == nil {
			in.auth.CountFailures(sender, n)
		}
	}
}
