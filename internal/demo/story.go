package demo

import (
	"context"
	"debug/elf"
	"fmt"
	"os"
	"strings"
	"time"

	"ferry/internal/config"
	"ferry/internal/remote"
	"ferry/internal/telemetry"
)

// A wait checks its condition every pollInterval. It fails if no byte comes over the link for
// stallTimeout.
const (
	pollInterval = 50 * time.Millisecond
	stallTimeout = time.Minute
)

// story runs the steps of the demo. The root is called ashore, its connected registry
// aurora, and the token of the machines on board deckhand.
func (d *demo) story(ctx context.Context) error {
	d.root, d.ship = d.instance("ashore", d.Port), d.instance("aurora", 0)
	if d.Port != 0 {
		d.ship = d.instance("aurora", d.Port+1)
	}
	fmt.Fprintf(d.Out, "Ferry %s: a connected registry syncs images from a root registry.\n", telemetry.Version())
	fmt.Fprintf(d.Out, "Here both run on this machine, in %s.\n", d.Dir)
	steps := []func(context.Context) error{
		d.startRoot, d.pushFirst, d.startShip, d.makeClient, d.syncOthers, d.stopRoot,
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if d.Once {
		d.screen.print("\nThat was all. Without --once, both registries go on running, for you to try.")
		return nil
	}
	return d.serve(ctx)
}

// run shows the lines of a command and runs it.
func (d *demo) run(ctx context.Context, lines ...string) error {
	_, err := d.runShown(ctx, lines...)
	return err
}

// runShown shows the lines of a command, runs it, and returns its output.
func (d *demo) runShown(ctx context.Context, lines ...string) (string, error) {
	d.screen.command(append([]string{"ferry " + lines[0]}, lines[1:]...)...)
	return d.runSilently(ctx, lines...)
}

// runSilently runs a command without showing it, and returns its output. The last word of
// the command may be a file in the demo's directory, to read ("< FILE") or to write
// ("--to-file FILE").
func (d *demo) runSilently(ctx context.Context, lines ...string) (string, error) {
	args, stdin := splitWords(lines...), ""
	switch last := len(args) - 1; args[last-1] {
	case "<":
		text, err := os.ReadFile(d.path(args[last]))
		if err != nil {
			return "", err
		}
		stdin, args = string(text), args[:last-1]
	case "--to-file":
		args[last] = d.path(args[last])
	}
	return d.Ferry(ctx, d.path("logins"), stdin, args)
}

// startRoot runs the root registry, and saves its login.
func (d *demo) startRoot(ctx context.Context) error {
	d.screen.title("A root registry, ashore")
	d.screen.command("ferry serve --data-dir ashore --listen " + d.root.cfg.Listen + " &")
	err := d.root.start(ctx)
	if err != nil {
		return err
	}
	if d.link, err = newLink(d.root.cfg.Listen, d.LinkRate); err != nil {
		return err
	}
	return d.run(ctx, "login ashore --url "+d.root.url+" -u admin --password-stdin",
		"< ashore/initial-admin-password")
}

// pushFirst pushes the first image. It makes the images, unless the user named some.
func (d *demo) pushFirst(ctx context.Context) error {
	if len(d.images) > 0 {
		d.screen.title("An image, %s", d.images[0].name)
	} else {
		d.screen.title("An image of this program, in two versions")
		if err := d.pack(); err != nil {
			return err
		}
	}
	return d.push(ctx, d.images[0])
}

// push pushes an image to the root, as its administrator.
func (d *demo) push(ctx context.Context, i *image) error {
	sent := int64(0)
	err := d.root.admin.Push(ctx, i.repository, i.tag, i.root, i.from, func(n int) {
		sent += int64(n)
		d.screen.progress("push "+i.name, sent, i.newBytes)
	})
	if err != nil {
		return err
	}
	d.screen.print("pushed %s: %d layers, %s\n%s", i.name, i.layers, config.SizeText(i.size), i.root.Digest)
	return nil
}

// startShip creates the connected registry at the root, starts it with the connection
// string, and waits until it has the first image.
func (d *demo) startShip(ctx context.Context) error {
	d.screen.title("A connected registry, on a ship")
	if err := d.run(ctx, "connected-registry create -n aurora -r ashore",
		"--mode ReadOnly --sync-schedule '* * * * *' --repository 'demo/*'"); err != nil {
		return err
	}
	// The connection string has the address through which it was requested. That is the
	// link's, so that the ship fetches through the link.
	_, err := d.runSilently(ctx,
		"login ashore-by-link --url "+d.link.url()+" -u admin --password-stdin < ashore/initial-admin-password")
	if err != nil {
		return err
	}
	speed := "as fast as this machine"
	if d.LinkRate != 0 {
		speed = config.SizeText(d.LinkRate) + "/s (--link-rate)"
	}
	d.screen.print("The link to the ship is %s, %s.", d.link.url(), speed)
	if err := d.run(ctx, "connected-registry get-settings -n aurora -r ashore-by-link",
		"--parent-protocol http --generate-password 1 --yes",
		"--query ACR_REGISTRY_CONNECTION_STRING -o tsv", "--to-file connection-string"); err != nil {
		return err
	}
	d.ship.cfg.ConnectionStringFile = d.path("connection-string")
	d.screen.command("ferry serve --data-dir aurora --listen "+d.ship.cfg.Listen,
		"--connection-string-file connection-string &")
	first, cutAt := d.images[0], int64(0)
	if first.newBytes >= minCutSize {
		cutAt = first.newBytes / 2
	}
	d.link.resetCount(cutAt)
	if err := d.ship.start(ctx); err != nil {
		return err
	}
	if err := d.run(ctx, "login aurora --url "+d.ship.url+" -u admin --password-stdin",
		"< aurora/initial-admin-password"); err != nil {
		return err
	}
	if cutAt == 0 {
		return d.sync(ctx, first)
	}
	return d.syncOverACut(ctx, first)
}

// minCutSize is the least size of an image whose sync is cut, in bytes. A smaller one fits
// in one request, and would start again.
const minCutSize = 4 << 20

// syncOverACut waits until the link is cut in the middle of a sync, shows the status of the
// ship, restores the link, and waits for the image.
func (d *demo) syncOverACut(ctx context.Context, i *image) error {
	err := d.waitUntil(ctx, "the ship does not fetch "+i.name, func() (bool, error) {
		d.screen.progress("sync "+i.name, d.link.received(), i.newBytes)
		return d.link.isCut(), nil
	})
	if err != nil {
		return err
	}
	before := d.link.received()
	d.screen.title("The link is cut in the middle of it, after %s", config.SizeText(before))
	if err := d.waitUntil(ctx, "the ship does not notice that its link is down", func() (bool, error) {
		codes, err := d.runSilently(ctx, "sync status -r aurora -o tsv --query details[].code")
		return strings.Contains(codes, "LinkDown"), err
	}); err != nil {
		return err
	}
	out, err := d.runShown(ctx, "sync status -r aurora --open")
	if err != nil {
		return err
	}
	d.screen.print("%s", strings.TrimSpace(out))
	d.screen.title("The link is back, and the sync continues from the same byte")
	d.link.resetCount(0)
	d.link.restore()
	if err := d.sync(ctx, i); err != nil {
		return err
	}
	all := before + d.link.received()
	d.screen.print("%s came over the link before and after the cut: %s more than the image has",
		config.SizeText(all), config.SizeText(max(0, all-i.newBytes)))
	return nil
}

// sync waits until the ship serves an image.
func (d *demo) sync(ctx context.Context, i *image) error {
	start := time.Now()
	err := d.waitUntil(ctx, "the ship does not get "+i.name, func() (bool, error) {
		d.screen.progress("sync "+i.name, d.link.received(), i.newBytes)
		at, err := d.ship.admin.Resolve(ctx, i.repository, i.tag)
		return err == nil && at == i.root.Digest, nil // an error means that there is no repository yet
	})
	if err != nil {
		return err
	}
	d.screen.print("%s is on board after %.1f s", i.name, time.Since(start).Seconds())
	d.screen.print("%s came over the link, for an image of %s", config.SizeText(d.link.received()),
		config.SizeText(i.size))
	return nil
}

// waitUntil calls ready until that returns true. If nothing has come over the link for
// [stallTimeout], it fails with condition in the error.
func (d *demo) waitUntil(ctx context.Context, condition string, ready func() (bool, error)) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	last, moved := d.link.received(), time.Now()
	for {
		if ok, err := ready(); err != nil || ok {
			return err
		}
		if now := d.link.received(); now != last {
			last, moved = now, time.Now()
		}
		if time.Since(moved) > stallTimeout {
			return fmt.Errorf("%s: no byte came over the link for %s", condition, stallTimeout)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// makeClient creates a token for the machines on board, and pulls with it.
func (d *demo) makeClient(ctx context.Context) error {
	d.screen.title("A token for the machines on board")
	if err := d.run(ctx, "scope-map create -n pull-demo -r ashore",
		"--repository 'demo/*' content/read metadata/read"); err != nil {
		return err
	}
	if err := d.run(ctx, "token create -n deckhand -r ashore --scope-map pull-demo",
		"--query 'credentials.passwords[0].value' -o tsv", "--to-file deckhand.password"); err != nil {
		return err
	}
	password, err := os.ReadFile(d.path("deckhand.password"))
	if err != nil {
		return err
	}
	d.password = strings.TrimSpace(string(password))
	if d.deckhand, err = remote.New(d.ship.url,
		remote.Options{Username: "deckhand", Password: d.password}); err != nil {
		return err
	}
	if err := d.run(ctx, "connected-registry update -n aurora -r ashore",
		"--add-client-tokens deckhand"); err != nil {
		return err
	}
	if err := d.waitUntil(ctx, "the ship does not get the token", func() (bool, error) {
		known, err := d.runSilently(ctx, "connected-registry show -n aurora -r aurora --query clientTokenIds -o tsv")
		return strings.Contains(known, "deckhand"), err
	}); err != nil {
		return err
	}
	d.screen.title("Pull on board")
	return d.pull(ctx, d.images[0])
}

func (d *demo) pull(ctx context.Context, i *image) error {
	if err := i.pull(ctx, d.deckhand); err != nil {
		return fmt.Errorf("pull %s from the ship: %w", i.name, err)
	}
	d.screen.print("pulled %s from %s as deckhand: %s,", i.name, d.deckhand.Host(), config.SizeText(i.size))
	d.screen.print("every digest is verified; the image's is the same as at the root:\n%s", i.root.Digest)
	return nil
}

// syncOthers pushes and syncs the other images. Only the layers that changed are fetched.
func (d *demo) syncOthers(ctx context.Context) error {
	for _, i := range d.images[1:] {
		d.screen.title("The next image: %s", i.name)
		d.link.resetCount(0)
		if err := d.push(ctx, i); err != nil {
			return err
		}
		if err := d.sync(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// stopRoot stops the root, and pulls all images from the ship.
func (d *demo) stopRoot(ctx context.Context) error {
	d.screen.title("Pull while the root is stopped")
	if err := d.root.stop(); err != nil {
		return err
	}
	if _, err := d.root.admin.Resolve(ctx, d.images[0].repository, d.images[0].tag); err == nil {
		return fmt.Errorf("the root still answers at %s", d.root.url)
	}
	d.screen.print("nothing answers at %s", d.root.url)
	for _, i := range d.images {
		if err := d.pull(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// instructions are the addresses of both registries, and commands to try. {podman} stands for podman.
const instructions = `The root runs again. Both registries run until you press Ctrl-C.

ashore, the root: http://{root}
  admin     {rootPassword}
aurora, the ship: http://{ship}
  admin     {shipPassword}
  deckhand  {password}

Try, in another terminal:

cd {dir}

export FERRY_CONFIG_DIR=$PWD/logins
{program} connected-registry show -n aurora -r ashore

skopeo copy --src-tls-verify=false --src-creds deckhand:$(cat deckhand.password) \
    docker://{ship}/{image} dir:pulled
{podman}
Push an image ashore, to a repository demo/..., and the ship gets it:

skopeo copy --dest-tls-verify=false --dest-creds admin:$(cat ashore/*password) \
    docker://docker.io/library/alpine docker://{root}/demo/alpine:3
`

// podman are the commands for images that run.
const podman = `
podman pull --tls-verify=false --creds deckhand:$(cat deckhand.password) \
    {ship}/{image}
podman run --rm {ship}/{image}
`

// serve starts the root again, prints the instructions, and waits for the end of ctx.
func (d *demo) serve(ctx context.Context) error {
	d.screen.title("Now you")
	if err := d.root.start(ctx); err != nil {
		return err
	}
	runs := ""
	if d.runs() {
		runs = podman
	}
	d.screen.print("%s", strings.NewReplacer(
		"{root}", d.root.cfg.Listen, "{rootPassword}", d.root.password,
		"{ship}", d.ship.cfg.Listen, "{shipPassword}", d.ship.password, "{password}", d.password,
		"{dir}", d.Dir, "{program}", d.Program, "{image}", d.images[len(d.images)-1].name,
	).Replace(strings.Replace(instructions, "{podman}", runs, 1)))
	<-ctx.Done()
	d.screen.print("stopping")
	return nil
}

// runs reports whether the packed images run. They have only the program, so it must not
// need a dynamic linker.
func (d *demo) runs() bool {
	f, err := elf.Open(d.Program)
	if err != nil || len(d.Images) > 0 {
		return false
	}
	defer f.Close()
	libraries, err := f.ImportedLibraries()
	return err == nil && len(libraries) == 0
}
