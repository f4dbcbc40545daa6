//go:build !windows

package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ferry/internal/api"
	"ferry/internal/config"
	"ferry/internal/schedule"
	"ferry/internal/server"
	"ferry/internal/storage"
	"ferry/internal/telemetry"
)

func newBlobsCommand(env *Env) *cobra.Command {
	return describe(group("blobs", "Move the blobs of an instance to another store", newBlobsCopyCommand(env)), `
Work on the blobs of an instance, at its machine.`)
}

func newBlobsCopyCommand(env *Env) *cobra.Command {
	cmd := verb(env, "copy", "Copy the blobs of an instance to another store", `
		ferry blobs copy --data-dir /var/lib/ferry --to s3://registry/root --to-endpoint https://s3.example:9000
		ferry blobs copy --config /etc/ferry/ferry.yaml --to s3://registry/root --bandwidth 40MiB
		ferry blobs copy --config /etc/ferry/ferry.yaml --to s3://registry/root --final
		ferry blobs copy --config /etc/ferry/ferry.yaml --to files --final -o json`,
		&blobsCopy{settings: map[string]string{}, target: map[string]string{}}, "to")
	return describe(cmd, `
Copy all blobs of an instance to another store: from the data directory to a
bucket, back, or to another bucket. Run it at the machine of the instance, as
its user, and with its settings: the flags, variables and file of ferry serve.
The flags --to and --to-... are what --blobs and --blobs-... will be.

Without --final, the instance serves meanwhile. Repeat the command until little
is new. Then stop the instance (all processes of a cluster), run the command
with --final, and start the instance with the other --blobs. The final copy
verifies that no blob is missing, and also copies uploads and syncs that had not
ended. Only then is the target the store of the instance, which does not start
with any other. The source stays as it is.

The digest of every blob is verified while it is copied. A copy that ended early
continues where it was when the command runs again. --bandwidth limits the bytes
that are read in a second; like that of a connected registry, it may depend on
the time of day: 22:00-05:00=unlimited 4MiB.`)
}

type blobsCopy struct {
	noClient
	file     string
	settings map[string]string // of the instance, that flags gave, by name
	target   map[string]string // the same of its blobs in the target
	limits   schedule.Bandwidth
	final    bool
}

// blobsPrefix begins the names of settings about an object store.
const blobsPrefix = "blobs-"

func (o *blobsCopy) define(set *pflag.FlagSet) {
	textVar(set, &o.file, "config", "", "FILE", "YAML file with the settings of the instance")
	keep := func(to map[string]string, name string) func(string) error {
		return func(text string) error { to[name] = text; return nil }
	}
	set.Var(&flag{kind: "URL", set: func(text string) error {
		if text != "files" { // the setting of files is none
			o.target["blobs"] = text
		}
		return noneEmpty([]string{text})
	}}, "to", "s3://BUCKET/PREFIX, or files for the data directory: where the blobs are copied to")
	for _, s := range config.Settings() {
		isBlobs := s.Name == "blobs" || strings.HasPrefix(s.Name, blobsPrefix)
		if isBlobs || s.Name == "data-dir" || s.Name == "database" {
			help := "of the instance: " + s.Help
			if s.Default != "" {
				help += fmt.Sprintf(" (default %s)", s.Default)
			}
			set.Var(&flag{kind: s.Value, set: keep(o.settings, s.Name)}, s.Name, help)
		}
		if name, ok := strings.CutPrefix(s.Name, blobsPrefix); ok {
			set.Var(&flag{kind: s.Value, set: keep(o.target, s.Name)}, "to-"+name, "like --"+s.Name+", of the target")
		}
	}
	listVar(set, "bandwidth", "", "RATE...",
		"read at most so much in a second, such as 40MiB or 22:00-05:00=100Mbit, in UTC",
		func(values []string) (err error) { o.limits, err = schedule.ParseBandwidth(values); return err })
	set.BoolVar(&o.final, "final", false, "the instance is stopped: copy the rest, and make the target its store")
}

func (o *blobsCopy) run(ctx context.Context, env *Env, _ *client) error {
	cfg, err := config.Load(cmp.Or(o.file, env.Getenv("FERRY_CONFIG")), env.LookupEnv, o.settings)
	if err != nil {
		return usageError{err}
	}
	to, err := cfg.WithBlobs(o.target)
	if err != nil {
		return usageError{err}
	}
	v, err := o.copy(ctx, env, cfg, server.CopyOptions{
		To: to, Final: o.final, Bandwidth: o.limits,
		Log: telemetry.NewLogger(env.Stderr, slog.LevelWarn, cfg.LogFormat),
	})
	for _, d := range slices.Sorted(maps.Keys(v.value.Damaged)) {
		fmt.Fprintf(env.Stderr, "warning: %s is damaged in the source, and was not copied: %s\n", d, v.value.Damaged[d])
	}
	if err != nil {
		return err
	}
	env.noteCopied(v.value)
	return show(env, v, copiedColumns())
}

// copy copies the blobs, and shows the progress.
func (o *blobsCopy) copy(
	ctx context.Context, env *Env, cfg config.Config, options server.CopyOptions,
) (v result[server.Copied], err error) {
	var running atomic.Pointer[storage.BlobCopy]
	options.Begin = running.Store
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		v.value, err = server.CopyBlobs(ctx, cfg, options)
	}()
	read := func(context.Context) (result[progress], error) {
		select {
		case <-ended:
			return result[progress]{}, nil
		default:
			return result[progress]{value: copyProgress(running.Load())}, nil
		}
	}
	first, _ := read(ctx)
	same := func(p progress) progress { return p }
	_, _ = await(ctx, env, first, same, read) // it ends early if ctx ends, and so does the copy
	<-ended
	if err != nil && ctx.Err() != nil {
		err = withHint(errors.New("interrupted"), "run the command again to continue")
	}
	if err != nil {
		return v, err
	}
	v.raw, err = json.Marshal(copiedOf(v.value))
	return v, err
}

// copyProgress returns the progress of a copy; nil is one that has not begun.
func copyProgress(c *storage.BlobCopy) progress {
	p := progress{running: true, name: "copying", waiting: "reading what is in both stores"}
	if c == nil {
		return p
	}
	pass := c.Progress()
	if pass.BlobsTotal == 0 {
		return p
	}
	p.waiting = ""
	perSecond := int64(float64(pass.Bytes) / max(time.Since(pass.Begun).Seconds(), 1))
	p.ByteProgress = api.ByteProgressOf(pass.Bytes, pass.BytesTotal, 0, perSecond)
	return p
}

// noteCopied says what to do next.
func (e *Env) noteCopied(c server.Copied) {
	note := func(format string, args ...any) {
		fmt.Fprintln(e.Stderr, paragraph("note: "+fmt.Sprintf(format, args...)))
	}
	start := "with --blobs " + c.To
	if c.To == "files" {
		start = "without --blobs"
	}
	if !c.Final {
		note("the instance still has its blobs in %s. To move it, stop it, run this command with --final, and start "+
			"it %s.", c.From, start)
		return
	}
	if n := c.Partials.Ended; n > 0 {
		note("%s could not be continued in %s: clients and syncs begin again.",
			counted(n, "unfinished upload or sync"), c.To)
	}
	note("start the instance %s. It no longer uses the blobs in %s; delete them when it serves well.", start, c.From)
}

// A copied is the result of a copy.
type copied struct {
	From           string        `json:"from"`
	To             string        `json:"to"`
	Blobs          int           `json:"blobs"`
	Bytes          int64         `json:"bytes"`
	Copied         int           `json:"copied"`
	CopiedBytes    int64         `json:"copiedBytes"`
	Damaged        []damagedBlob `json:"damaged"`
	PartialsCopied int           `json:"partialsCopied"`
	PartialsEnded  int           `json:"partialsEnded"`
	Final          bool          `json:"final"`
}

type damagedBlob struct {
	Digest digest.Digest `json:"digest"`
	Reason string        `json:"reason"`
}

func copiedOf(c server.Copied) copied {
	all := copied{
		From: c.From, To: c.To, Blobs: c.Blobs, Bytes: c.Bytes, Copied: c.Copied, CopiedBytes: c.CopiedBytes,
		Damaged: []damagedBlob{}, PartialsCopied: c.Partials.Copied, PartialsEnded: c.Partials.Ended, Final: c.Final,
	}
	for _, d := range slices.Sorted(maps.Keys(c.Damaged)) {
		all.Damaged = append(all.Damaged, damagedBlob{d, c.Damaged[d]})
	}
	return all
}

func copiedColumns() []column[server.Copied] {
	return []column[server.Copied]{
		{title: "FROM", text: func(c server.Copied) string { return c.From }, cut: true},
		{title: "TO", text: func(c server.Copied) string { return c.To }, cut: true},
		{title: "BLOBS", text: func(c server.Copied) string { return fmt.Sprint(c.Blobs) }},
		{title: "SIZE", text: func(c server.Copied) string { return config.SizeText(c.Bytes) }},
		{title: "COPIED", text: func(c server.Copied) string { return fmt.Sprint(c.Copied) }},
		{title: "DAMAGED", text: func(c server.Copied) string { return numberText(len(c.Damaged)) }, rank: 1},
		{title: "FINAL", text: func(c server.Copied) string { return yesText(c.Final) }},
	}
}
