//go:build !windows

package cli

import (
	"context"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// A notifier tells systemd the state of an instance, as a unit of Type=notify expects. Without
// systemd, it does nothing.
type notifier struct{ log *slog.Logger }

// ready says that the instance serves. When ctx ends, it says that the instance stops. Until
// running ends, it says that the instance is alive.
func (n notifier) ready(ctx, running context.Context) {
	n.send(daemon.SdNotifyReady)
	context.AfterFunc(ctx, func() { n.send(daemon.SdNotifyStopping) })
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		n.log.Warn("no watchdog", "err", err)
	}
	if err != nil || interval == 0 {
		return
	}
	go n.watchdog(running, interval/3)
}

// watchdog says that the instance is alive. systemd restarts an instance that is silent for a
// whole interval of its watchdog.
func (n notifier) watchdog(running context.Context, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			n.send(daemon.SdNotifyWatchdog)
		case <-running.Done():
			return
		}
	}
}

func (n notifier) send(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		n.log.Warn("systemd does not listen", "state", state, "err", err)
	}
}
