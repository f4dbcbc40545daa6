package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"ferry/internal/api"
	"ferry/internal/download"
	"ferry/internal/fleet"
	"ferry/internal/metadb"
	"ferry/internal/mirror"
	"ferry/internal/scrub"
	"ferry/internal/telemetry"
)

// collectTimeout bounds each part of a request for the metrics. A part that takes longer is left
// out of the answer.
const collectTimeout = 5 * time.Second

// observe adds the instance's metrics to those of the process and its requests. The functions that
// collect them begin below; docs/operations.md lists them.
func (in *instance) observe(ctx context.Context, dataDir string) {
	collect := func(read func(context.Context) ([]telemetry.Sample, error)) func() []telemetry.Sample {
		return func() []telemetry.Sample {
			ctx, cancel := context.WithTimeout(ctx, collectTimeout)
			defer cancel()
			all, err := read(ctx)
			if err != nil { // the values are not known
				in.log.Warn("metrics are incomplete", "err", err)
			}
			return all
		}
	}
	m := in.metrics
	m.Collect(collect(scrubMetrics(in.scrub)))
	m.Collect(collect(diskMetrics(dataDir, in.available)))
	m.Collect(collect(databaseMetrics(in.db, dataDir)))
	m.Collect(collect(in.upkeep.collections.metrics()))
	m.Collect(collect(linkMetrics(in.meter, in.traffic)))
	m.Collect(collect(certificateMetrics(in)))
	m.Collect(collect(anonymousMetrics(in.auth.AnonymousRequests)))
	standings := &standings{read: in.fleet.Standings}
	m.Collect(collect(standings.totals(in.fleet.HeldPolls)))
	m.CollectNamed(collect(standings.each()))
	if in.agent != nil {
		m.Collect(collect(syncMetrics(in.fleet.SyncStatus, in.agent.ClockSkew, in.agent.Quarantined)))
	}
	if in.mirrors != nil {
		all, each := ruleMetrics(in.mirrors)
		m.Collect(collect(all))
		m.CollectNamed(collect(each))
	}
}

// A collector returns the present values of some metrics.
type collector = func(context.Context) ([]telemetry.Sample, error)

// available returns how many bytes of content still fit on the disk.
func (in *instance) available(ctx context.Context) (int64, error) {
	space, err := in.storage.DiskSpace(ctx)
	return space.Free, err
}

// scrubMetrics are about damage, and the progress of the scrub.
func scrubMetrics(s *scrub.Scrubber) collector {
	damaged := telemetry.NewGauge("ferry_damaged_items",
		"Blobs and manifests that are damaged, and out of service until they are fetched or pushed again.")
	ended := telemetry.NewGauge("ferry_scrub_last_end_timestamp_seconds",
		"Time when the last scrub ended; 0 while one runs, or if none ever ended.")
	read := telemetry.NewGauge("ferry_scrub_read_bytes", "Bytes that the running scrub, or the last one, has read.")
	size := telemetry.NewGauge("ferry_scrub_size_bytes", "Bytes that the running scrub, or the last one, has to read.")
	return func(ctx context.Context) ([]telemetry.Sample, error) {
		v, err := s.Status(ctx)
		if err != nil {
			return nil, err
		}
		return []telemetry.Sample{
			damaged.Is(float64(v.DamagedNow)), ended.Is(unixOf(v.EndTime)),
			read.Is(float64(v.BytesDone)), size.Is(float64(v.BytesTotal)),
		}, nil
	}
}

// unixOf is a time, or none, as the value of a metric.
func unixOf(t *time.Time) float64 {
	if t == nil {
		return 0
	}
	return telemetry.Unix(*t)
}

// diskMetrics are about the disk of the data directory.
func diskMetrics(dir string, available func(context.Context) (int64, error)) collector {
	size := telemetry.NewGauge("ferry_disk_size_bytes", "Size of the data directory's disk.")
	free := telemetry.NewGauge("ferry_disk_free_bytes", "Free bytes of the data directory's disk.")
	usable := telemetry.NewGauge("ferry_disk_available_bytes",
		"Free bytes without those that running transfers will use, and the reserve; negative if too many are promised.")
	files := telemetry.NewGauge("ferry_disk_inodes", "Inodes of the data directory's disk; 0 if it has no limit.")
	freeFiles := telemetry.NewGauge("ferry_disk_free_inodes", "Free inodes of the data directory's disk.")
	return func(ctx context.Context) ([]telemetry.Sample, error) {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			return nil, err
		}
		block := float64(st.Bsize)
		all := []telemetry.Sample{
			size.Is(block * float64(st.Blocks)), free.Is(block * float64(st.Bavail)),
			files.Is(float64(st.Files)), freeFiles.Is(float64(st.Ffree)),
		}
		left, err := available(ctx)
		if err == nil {
			all = append(all, usable.Is(float64(left)))
		}
		return all, err
	}
}

// databaseMetrics say whether the database answers, and how large it is.
func databaseMetrics(db *metadb.DB, dir string) collector {
	up := telemetry.NewGauge("ferry_database_up", "1 if the database answers.")
	took := telemetry.NewGauge("ferry_database_ping_seconds", "Time that the database took to answer a small query.")
	size := telemetry.NewGauge("ferry_database_size_bytes", "Size of SQLite's files in the data directory.")
	return func(ctx context.Context) (all []telemetry.Sample, err error) {
		start := time.Now()
		_, err = metadb.Read(ctx, db, func(tx *metadb.Tx) (string, error) { return tx.Setting("ready") })
		all = append(all, up.Is(telemetry.Bool(err == nil)))
		if err == nil {
			all = append(all, took.Is(time.Since(start).Seconds()))
		}
		sum := int64(0)
		for _, suffix := range []string{"", "-wal"} {
			if info, err := os.Stat(filepath.Join(dir, databaseFile+suffix)); err == nil {
				sum += info.Size()
			}
		}
		if sum > 0 { // else it is PostgreSQL, or elsewhere
			all = append(all, size.Is(float64(sum)))
		}
		return all, err
	}
}

// collections count the garbage collections since the start.
type collections struct {
	mu                  sync.Mutex
	runs, failures      int
	blobs, bytes        int64
	lastRun, lastFailed time.Time
}

// ran records a collection.
func (c *collections) ran(now time.Time, blobs int, bytes int64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.runs, c.blobs, c.bytes, c.lastRun = c.runs+1, c.blobs+int64(blobs), c.bytes+bytes, now
	if err != nil {
		c.failures, c.lastFailed = c.failures+1, now
	}
}

func (c *collections) metrics() collector {
	runs := telemetry.NewCounter("ferry_gc_runs_total", "Garbage collections since the start.")
	failures := telemetry.NewCounter("ferry_gc_failures_total", "Garbage collections that failed, at least in part.")
	blobs := telemetry.NewCounter("ferry_gc_deleted_blobs_total", "Blobs that garbage collections deleted.")
	bytes := telemetry.NewCounter("ferry_gc_freed_bytes_total", "Bytes that garbage collections freed.")
	last := telemetry.NewGauge("ferry_gc_last_run_timestamp_seconds",
		"Time of the last garbage collection; 0 if there was none since the start.")
	return func(context.Context) ([]telemetry.Sample, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		return []telemetry.Sample{
			runs.Is(float64(c.runs)), failures.Is(float64(c.failures)), blobs.Is(float64(c.blobs)),
			bytes.Is(float64(c.bytes)), last.Is(telemetry.Unix(c.lastRun)),
		}, nil
	}
}

// linkMetrics are about the content that comes from other registries.
func linkMetrics(meter *download.Meter, traffic *telemetry.Traffic) collector {
	transfers := telemetry.NewGauge("ferry_transfers", "Blobs that are being fetched, or wait for it.", "state")
	content := telemetry.NewCounter("ferry_transfer_received_bytes_total", "Bytes of content that were fetched.")
	retries := telemetry.NewCounter("ferry_transfer_retries_total",
		"Requests for content that failed and were repeated.")
	failures := telemetry.NewCounter("ferry_transfer_failures_total",
		"Blobs that could not be fetched; the next sync or run tries them again.")
	bytes := telemetry.NewCounter("ferry_link_bytes_total",
		"Bytes of all connections to the parent and to sources of mirror rules, with headers and TLS.", "direction")
	return func(context.Context) ([]telemetry.Sample, error) {
		l := meter.Load()
		return []telemetry.Sample{
			transfers.Is(float64(l.Transferring), "running"), transfers.Is(float64(l.Waiting), "waiting"),
			content.Is(float64(l.Received)), retries.Is(float64(l.Retries)), failures.Is(float64(l.Failed)),
			bytes.Is(float64(traffic.Received()), "received"), bytes.Is(float64(traffic.Sent()), "sent"),
		}, nil
	}
}

// certificateMetrics say when the certificate of the listener expires.
func certificateMetrics(in *instance) collector {
	notAfter := telemetry.NewGauge("ferry_tls_certificate_not_after_timestamp_seconds",
		"Time when the certificate that this instance serves with expires.")
	return func(context.Context) ([]telemetry.Sample, error) {
		end := in.certificateEnd()
		if end.IsZero() {
			return nil, nil
		}
		return []telemetry.Sample{notAfter.Is(telemetry.Unix(end))}, nil
	}
}

// certificateEnd returns when the certificate of the listener expires; zero if there is none yet.
func (in *instance) certificateEnd() time.Time {
	if in.certs == nil {
		return time.Time{}
	}
	if a, ok := in.certs.(*acmeCertificates); ok { // a request for the metrics must not wait for a CA
		if end := a.expires.Load(); end != nil {
			return *end
		}
		return time.Time{}
	}
	c, err := in.certs.GetCertificate(&tls.ClientHelloInfo{})
	if err != nil {
		return time.Time{}
	}
	return endOf(c)
}

// endOf returns when a certificate expires; zero for none.
func endOf(c *tls.Certificate) time.Time {
	if c == nil || len(c.Certificate) == 0 {
		return time.Time{}
	}
	leaf, err := c.Leaf, error(nil)
	if leaf == nil {
		leaf, err = x509.ParseCertificate(c.Certificate[0])
	}
	if err != nil {
		return time.Time{}
	}
	return leaf.NotAfter
}

// anonymousMetrics count requests without credentials.
func anonymousMetrics(count func() int64) collector {
	requests := telemetry.NewCounter("ferry_anonymous_requests_total",
		"Requests of the registry API allowed without credentials.")
	return func(context.Context) ([]telemetry.Sample, error) {
		return []telemetry.Sample{requests.Is(float64(count()))}, nil
	}
}

// syncMetrics are about a connected registry's own syncs.
func syncMetrics(
	status func() *api.SyncStatus, skew func() (time.Duration, bool), quarantined func() int,
) collector {
	inSync := telemetry.NewGauge("ferry_sync_in_sync", "1 if it is in sync; 0 if it is not, or if that is not known.")
	asOf := telemetry.NewGauge("ferry_sync_as_of_timestamp_seconds",
		"Time as of which ferry_sync_in_sync was measured, or since which nothing is known; 0 is never.")
	lastInSync := telemetry.NewGauge("ferry_sync_last_in_sync_timestamp_seconds",
		"Time when it was last known to be in sync; 0 is never. The age of that is the lag.")
	synced := telemetry.NewGauge("ferry_sync_items_synced", "Tags and manifests that match the parent.")
	pending := telemetry.NewGauge("ferry_sync_items_pending",
		"Tags and manifests that are not yet fetched, or not yet deleted.")
	failed := telemetry.NewGauge("ferry_sync_items_failed", "Tags and manifests whose last sync failed.")
	bytes := telemetry.NewGauge("ferry_sync_pending_bytes",
		"Bytes of layers that are still to be fetched; a lower bound until all items are planned.")
	success := telemetry.NewGauge("ferry_sync_last_success_timestamp_seconds",
		"Time when a sync last ended with everything in sync; 0 is never.")
	open := telemetry.NewGauge("ferry_sync_window_open", "1 if a sync may run now.")
	paused := telemetry.NewGauge("ferry_sync_paused", "1 if syncs are paused.")
	problem := telemetry.NewGauge("ferry_sync_problem", "1 for each problem in the status.", "code")
	clock := telemetry.NewGauge("ferry_clock_skew_seconds",
		"How far this machine's clock is ahead of the parent's; absent until the parent has answered.")
	bad := telemetry.NewGauge("ferry_quarantined_blobs",
		"Blobs that are not fetched for a while, because the parent sent wrong content in several syncs.")
	return func(context.Context) ([]telemetry.Sample, error) {
		s := status()
		if s == nil {
			return nil, nil
		}
		last := s.Result.LastSuccessfulSyncEndTime
		if s.InSync {
			last = s.AsOfTime
		}
		all := []telemetry.Sample{
			inSync.Is(telemetry.Bool(s.InSync)), asOf.Is(unixOf(s.AsOfTime)), lastInSync.Is(unixOf(last)),
			synced.Is(float64(s.ItemsSynced)), pending.Is(float64(s.ItemsPending)), failed.Is(float64(s.ItemsFailed)),
			bytes.Is(float64(max(s.BytesTotal-s.BytesDone, 0))), success.Is(unixOf(s.Result.LastSuccessfulSyncEndTime)),
			open.Is(telemetry.Bool(fleet.WindowOpen(s))), paused.Is(telemetry.Bool(s.Paused)),
			bad.Is(float64(quarantined())),
		}
		for _, code := range fleet.Problems(s.Details, func(d api.StatusDetail) string { return d.Code }) {
			all = append(all, problem.Is(1, code))
		}
		if ahead, ok := skew(); ok {
			all = append(all, clock.Is(ahead.Seconds()))
		}
		return all, nil
	}
}

// ruleMetrics are about mirror rules: those of all together, and those of each by its name.
func ruleMetrics(s *mirror.Service) (totals, each collector) {
	rules := telemetry.NewGauge("ferry_mirror_rules", "Mirror rules.")
	outOfSync := telemetry.NewGauge("ferry_mirror_rules_out_of_sync", "Mirror rules that are not in sync.")
	pending := telemetry.NewGauge("ferry_mirror_items_pending", "Items of mirror rules that are not yet fetched.")
	failed := telemetry.NewGauge("ferry_mirror_items_failed", "Items of mirror rules whose last run failed.")
	inSync := telemetry.NewGauge("ferry_mirror_rule_in_sync", "1 if the last run of the rule left it in sync.", "rule")
	success := telemetry.NewGauge("ferry_mirror_rule_last_success_timestamp_seconds",
		"Time when a run of the rule last ended in sync; 0 is never.", "rule")
	totals = func(ctx context.Context) ([]telemetry.Sample, error) {
		sum, err := s.Summary(ctx)
		if err != nil {
			return nil, err
		}
		return []telemetry.Sample{
			rules.Is(float64(sum.Rules)), outOfSync.Is(float64(sum.OutOfSync)),
			pending.Is(float64(sum.ItemsPending)), failed.Is(float64(sum.ItemsFailed)),
		}, nil
	}
	each = func(ctx context.Context) (all []telemetry.Sample, err error) {
		states, err := s.RuleStates(ctx)
		for _, r := range states {
			all = append(all,
				inSync.Is(telemetry.Bool(r.InSync), r.Name), success.Is(telemetry.Unix(r.LastSuccess), r.Name))
		}
		return all, err
	}
	return totals, each
}

// standings are those of the descendants. One request for the metrics reads them once.
type standings struct {
	read func(context.Context) ([]fleet.Standing, error)

	mu   sync.Mutex
	at   time.Time
	last []fleet.Standing
}

// standingsAge is how long the standings are kept: for both collectors of one request, and for
// several Prometheus servers that ask at the same time.
const standingsAge = 2 * time.Second

func (s *standings) now(ctx context.Context) ([]fleet.Standing, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if age := time.Since(s.at); age >= 0 && age < standingsAge {
		return s.last, nil
	}
	all, err := s.read(ctx)
	if err == nil {
		s.at, s.last = time.Now(), all
	}
	return all, err
}

// totals counts the descendants.
func (s *standings) totals(heldPolls func() int) collector {
	count := telemetry.NewGauge("ferry_connected_registries",
		"Connected registries below this instance, by whether they are in sync.", "status")
	silent := telemetry.NewGauge("ferry_connected_registries_silent",
		"Connected registries that should have been heard and were not.")
	states := telemetry.NewGauge("ferry_connected_registries_by_state",
		"Connected registries by their state, such as Behind or NeedsYou.", "state")
	reasons := telemetry.NewGauge("ferry_connected_registries_by_reason",
		"Connected registries by the reason for their state, such as DiskError.", "reason")
	polls := telemetry.NewGauge("ferry_held_polls", "Polls of children that are held until there is news.")
	return func(ctx context.Context) ([]telemetry.Sample, error) {
		all := []telemetry.Sample{polls.Is(float64(heldPolls()))}
		standings, err := s.now(ctx)
		if err != nil {
			return all, err
		}
		counts, quiet := map[string]int{}, 0
		byState, byReason := map[string]int{}, map[string]int{}
		for _, r := range standings {
			status := r.Verdict
			if !r.Active {
				status = "NotActivated"
			}
			counts[status]++
			byState[r.State]++
			if r.Reason != "" {
				byReason[r.Reason]++
			}
			if r.Silent {
				quiet++
			}
		}
		for _, status := range []string{api.InSync, api.NotInSync, api.Unknown, "NotActivated"} {
			all = append(all, count.Is(float64(counts[status]), status))
		}
		for _, state := range fleet.States() {
			all = append(all, states.Is(float64(byState[state]), state))
		}
		for reason, n := range byReason {
			all = append(all, reasons.Is(float64(n), reason))
		}
		return append(all, silent.Is(float64(quiet))), nil
	}
}

// each has the metrics of each descendant. Those that were never activated have none.
func (s *standings) each() collector {
	const label = "connected_registry"
	inSync := telemetry.NewGauge("ferry_connected_registry_in_sync",
		"1 if it is in sync; 0 if it is not, or if that is not known.", label)
	silent := telemetry.NewGauge("ferry_connected_registry_silent",
		"1 if it, or a registry above it, should have been heard and was not.", label)
	lastInSync := telemetry.NewGauge("ferry_connected_registry_last_in_sync_timestamp_seconds",
		"Time when it was last known to be in sync; 0 is never. The age of that is the lag.", label)
	heard := telemetry.NewGauge("ferry_connected_registry_last_heard_timestamp_seconds",
		"Time of its last report or poll; 0 is never.", label)
	state := telemetry.NewGauge("ferry_connected_registry_state",
		"Always 1; the state is a label: Online, Offline, Syncing or Unhealthy.", label, "state")
	summary := telemetry.NewGauge("ferry_connected_registry_sync_state",
		"Always 1; labels are its state, such as Behind, and the reason for that.", label, "state", "reason")
	lag := telemetry.NewGauge("ferry_connected_registry_lag_seconds",
		"Time since it is not known to have everything; 0 if it has.", label)
	open := telemetry.NewGauge("ferry_connected_registry_window_open", "1 if its sync window is open.", label)
	pending := telemetry.NewGauge("ferry_connected_registry_items_pending", "Items that it has yet to fetch or delete.",
		label)
	failed := telemetry.NewGauge("ferry_connected_registry_items_failed", "Items whose last sync failed.", label)
	bytes := telemetry.NewGauge("ferry_connected_registry_pending_bytes",
		"Bytes of layers that it has yet to fetch; a lower bound until it has planned all items.", label)
	unheardItems := telemetry.NewGauge("ferry_connected_registry_unheard_items",
		"Items that changed and of which it has not heard.", label)
	unheardBytes := telemetry.NewGauge("ferry_connected_registry_unheard_bytes",
		"Bytes of layers of the items of which it has not heard; it may have some of them.", label)
	problem := telemetry.NewGauge("ferry_connected_registry_problem", "1 for each problem in its last report.", label,
		"code")
	return func(ctx context.Context) ([]telemetry.Sample, error) {
		standings, err := s.now(ctx)
		if err != nil {
			return nil, err
		}
		all := make([]telemetry.Sample, 0, 14*len(standings))
		now := time.Now()
		for _, r := range standings {
			if !r.Active {
				continue
			}
			all = append(all,
				inSync.Is(telemetry.Bool(r.Verdict == api.InSync), r.Name), silent.Is(telemetry.Bool(r.Silent), r.Name),
				lastInSync.Is(telemetry.Unix(r.InSync), r.Name), heard.Is(telemetry.Unix(r.Heard), r.Name),
				state.Is(1, r.Name, r.Connection), open.Is(telemetry.Bool(r.Open), r.Name),
				pending.Is(float64(r.ItemsPending), r.Name), failed.Is(float64(r.ItemsFailed), r.Name),
				bytes.Is(float64(r.BytesPending), r.Name), summary.Is(1, r.Name, r.State, r.Reason),
				unheardItems.Is(float64(r.ItemsUnheard), r.Name), unheardBytes.Is(float64(r.BytesUnheard), r.Name),
				lag.Is(r.Lag(now).Seconds(), r.Name))
			for _, code := range r.Problems {
				all = append(all, problem.Is(1, r.Name, code))
			}
		}
		return all, nil
	}
}
