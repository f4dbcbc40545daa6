package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ferry/internal/api"
	imagelayout "ferry/internal/layout"
	"ferry/internal/oci"
	"ferry/internal/remote"
	"ferry/internal/telemetry"
)

func newPushLayoutCommand(env *Env) *cobra.Command {
	o := &pushLayoutOptions{}
	cmd := verb(env, "push-layout DIR IMAGE", "Push an image from an OCI image layout to any registry", `
		ferry push-layout bin/image home/ferry:1.0
		ferry push-layout bin/image registry.example/tools/ferry:1.0
		ferry push-layout backup http://127.0.0.1:5000/apps/web:2.3 --tag v2.3`, o)
	cmd.Long = `Push an image from an OCI image layout to any registry, with all its platforms
and its referrers, such as an SBOM. Blobs that the registry has are not sent
again, so if a push is interrupted, run the same command again.

IMAGE is REGISTRY/REPOSITORY[:TAG]. REGISTRY is a name that ferry login saved,
or an address; http:// before it means no TLS. Without a tag, the image gets the
one that it has in the layout.

The user and the password are those of FERRY_USERNAME and FERRY_PASSWORD, else
those that ferry login saved, else those of docker login.`
	cmd.Args = func(_ *cobra.Command, args []string) (err error) {
		if len(args) != 2 {
			return withHint(usagef("push-layout needs two arguments, a directory and an image"),
				"ferry push-layout DIR REGISTRY/REPOSITORY:TAG")
		}
		o.dir = args[0]
		o.registry, o.image, err = splitPushTarget(args[1])
		return err
	}
	return cmd
}

type pushLayoutOptions struct {
	noClient
	dir      string
	registry string // a saved name, or an address
	image    oci.Reference
	tag      string // of the image in the layout
}

func (o *pushLayoutOptions) define(set *pflag.FlagSet) {
	textVar(set, &o.tag, "tag", "", "TAG", "the image's tag in the layout (default the only one)")
}

// splitPushTarget splits REGISTRY/REPOSITORY[:TAG]. An address may begin with http:// or https://.
func splitPushTarget(text string) (registry string, image oci.Reference, err error) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		scheme, rest = "", text
	}
	registry, name, ok := strings.Cut(rest, "/")
	if !ok || registry == "" {
		return "", image, withHint(usagef("%q is not an image: want REGISTRY/REPOSITORY:TAG", clip(text)),
			"ferry push-layout DIR registry.example/tools/ferry:1.0")
	}
	// With a host before it, no part of the name is taken for one.
	if image, err = oci.ParseReference("localhost/" + name); err != nil {
		return "", image, usagef("%q is not an image: %v", clip(text), err)
	}
	if image.Digest != "" {
		return "", image, usagef("%q has a digest: want a tag", clip(text))
	}
	if scheme != "" {
		registry = scheme + "://" + registry
	}
	return registry, image, nil
}

// A pushedImage is the result of push-layout.
type pushedImage struct {
	Image     string           `json:"image"`
	Digest    string           `json:"digest"`
	Bytes     int64            `json:"bytes"` // of all blobs
	BytesSent int64            `json:"bytesSent"`
	Referrers []pushedReferrer `json:"referrers"`
}

type pushedReferrer struct {
	ArtifactType string `json:"artifactType"`
	Digest       string `json:"digest"`
}

func (o *pushLayoutOptions) run(ctx context.Context, env *Env, _ *client) error {
	from, err := imagelayout.Open(o.dir)
	if err != nil {
		return withHint(err, "DIR is a directory with a file oci-layout, such as that of skopeo copy ... oci:DIR:TAG")
	}
	root, err := from.Resolve(o.tag)
	if err != nil {
		return withHint(err, "--tag names the image to push")
	}
	candidates, err := from.Manifests()
	if err != nil {
		return err
	}
	if o.image.Tag == "" {
		if o.image.Tag = root.Annotations["org.opencontainers.image.ref.name"]; oci.CheckTag(o.image.Tag) != nil {
			return usagef("the image has no tag: want REGISTRY/REPOSITORY:TAG")
		}
	}
	to, err := env.anyRegistry(o.registry)
	if err != nil {
		return err
	}
	candidates = slices.DeleteFunc(candidates, func(d oci.Descriptor) bool { return d.Digest == root.Digest })
	progress := &remote.PushProgress{}
	var referrers []oci.Descriptor
	err = env.watchPush(ctx, progress, func(ctx context.Context) (err error) {
		referrers, err = to.PushWithReferrers(ctx, o.image.Repository, o.image.Tag, root, candidates, from, progress)
		return err
	})
	if err != nil {
		return explainPush(err, to.Host())
	}
	done := pushedImage{
		Image:  to.Host() + "/" + o.image.Repository + ":" + o.image.Tag,
		Digest: string(root.Digest), Bytes: progress.Total.Load(), BytesSent: progress.Sent.Load(),
		Referrers: []pushedReferrer{},
	}
	for _, d := range referrers {
		done.Referrers = append(done.Referrers, pushedReferrer{d.ArtifactType, string(d.Digest)})
	}
	return env.print(done)
}

// anyRegistry returns a client of a registry, which need not be a Ferry.
func (e *Env) anyRegistry(name string) (*remote.Registry, error) {
	saved, err := e.loadLogins()
	if err != nil {
		return nil, err
	}
	l, err := saved.find(name)
	if err != nil {
		return nil, err
	}
	if user := e.Getenv("FERRY_USERNAME"); user != "" {
		l.User, l.Password = user, e.Getenv("FERRY_PASSWORD")
	}
	return remote.New(l.URL, remote.Options{Username: l.User, Password: l.Password, DockerLogins: true,
		UserAgent: "ferry/" + telemetry.Version()})
}

// watchPush runs push, and shows its progress until it ends.
func (e *Env) watchPush(ctx context.Context, p *remote.PushProgress, push func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- push(ctx) }()
	watched, stop := context.WithCancel(ctx)
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		begin := time.Now()
		ask := func(context.Context) (sample, error) { return sample{all: pushProgress(p, time.Since(begin))}, nil }
		watch := printProgress
		if e.draws(e.Stderr) {
			watch = drawProgress
		}
		_ = watch(watched, e.Stderr, pushProgress(p, 0), ask) // it ends only if stopped
	}()
	err := <-ended
	stop()
	<-shown
	return err
}

// pushProgress returns the progress of a push after a time.
func pushProgress(p *remote.PushProgress, ran time.Duration) progress {
	total, sent := p.Total.Load(), p.Sent.Load()
	rate := int64(float64(sent) / max(ran.Seconds(), 1))
	return progress{running: true, name: "pushing",
		ByteProgress: api.ByteProgressOf(min(total, sent+p.Present.Load()), total, 0, rate)}
}

// explainPush adds advice to an error of a push.
func explainPush(err error, host string) error {
	switch {
	case errors.Is(err, context.Canceled):
		return withHint(errors.New("interrupted"), "the same command continues; it sends only the missing blobs")
	case errors.Is(err, oci.ErrUnauthorized), errors.Is(err, oci.ErrDenied):
		return withHint(fmt.Errorf("push to %s: %w", host, err), "save a login that may push: "+
			"ferry login NAME --url URL -u USER --password-stdin, or docker login %s", host)
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return withHint(fmt.Errorf("push to %s: %w", host, err), "the registry does not use TLS: put http:// before it")
	case strings.Contains(err.Error(), "certificate signed by unknown authority"):
		return withHint(fmt.Errorf("push to %s: %w", host, err),
			"trust its certificate authority: SSL_CERT_FILE=ca.pem ferry ...")
	}
	return fmt.Errorf("push to %s: %w", host, err)
}
