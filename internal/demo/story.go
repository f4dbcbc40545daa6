package demo

import (
	"context"
	"debug/elf"
	"fmt"
	"os"
	"strings"
	"text/template"
	"time"

	"ferry/internal/config"
	"ferry/internal/remote"
	"ferry/internal/telemetry"
)

// What is waited for is looked at every tick, and given up when nothing has
// moved for as long as patience.
const (
	tick     = 50 * time.Millisecond
	patience = time.Minute
)

// story is the demo, step by step. The root is called ashore, its connected
// registry aurora, and the token of the machines on board deckhand.
func (d *demo) story(ctx context.Context) error {
	d.root, d.ship = d.instance("ashore", d.Port), d.instance("aurora", 0)
	if d.Port != 0 {
		d.ship = d.instance("aurora", d.Port+1)
	}
	fmt.Fprintf(d.Out, "Ferry %s: images cross from a root registry to a connected registry,\n", telemetry.Version())
	fmt.Fprintf(d.Out, "here both on this machine, in %s.\n", d.Dir)
	steps := []func(context.Context) error{
		d.startRoot, d.pushFirst, d.startShip, d.makeClient, d.update, d.switchOff,
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if d.Once {
		d.screen.say("\nThat was all. Without --once, both go on serving, for you to try.")
		return nil
	}
	return d.serve(ctx)
}

// ferry shows the lines of a command and runs it.
func (d *demo) ferry(ctx context.Context, lines ...string) error {
	_, err := d.ferryShown(ctx, lines...)
	return err
}

// ferryShown is ferry for a command whose output is wanted.
func (d *demo) ferryShown(ctx context.Context, lines ...string) (string, error) {
	d.screen.typed(append([]string{"ferry " + lines[0]}, lines[1:]...)...)
	return d.quietly(ctx, lines...)
}

// quietly runs a command without showing it, and returns what it writes. The
// command may end in the name of a file of the demo's directory that it reads or
// writes.
func (d *demo) quietly(ctx context.Context, lines ...string) (string, error) {
	args, stdin := words(lines...), ""
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
	d.screen.typed("ferry serve --data-dir ashore --listen " + d.root.cfg.Listen + " &")
	err := d.root.start(ctx)
	if err != nil {
		return err
	}
	if d.link, err = newLink(d.root.cfg.Listen, d.LinkRate); err != nil {
		return err
	}
	return d.ferry(ctx, "login ashore --url "+d.root.url+" -u admin --password-stdin",
		"< ashore/initial-admin-password")
}

// pushFirst makes the images, unless there are some, and pushes the first.
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
		d.screen.progress("push "+i.name, sent, i.fresh)
	})
	if err != nil {
		return err
	}
	d.screen.say("pushed %s: %d layers, %s\n%s", i.name, i.layers, config.SizeText(i.size), i.root.Digest)
	return nil
}

// startShip makes the connected registry at the root, starts it with the
// connection string, and waits until the first image is there.
func (d *demo) startShip(ctx context.Context) error {
	d.screen.title("A connected registry, on a ship")
	if err := d.ferry(ctx, "connected-registry create -n aurora -r ashore",
		"--mode ReadOnly --sync-schedule '* * * * *' --repository 'demo/*'"); err != nil {
		return err
	}
	// The connection string holds the address at which it is asked for: the
	// link's, so that what the ship fetches goes through it.
	_, err := d.quietly(ctx,
		"login ashore-by-link --url "+d.link.url()+" -u admin --password-stdin < ashore/initial-admin-password")
	if err != nil {
		return err
	}
	speed := "as fast as this machine"
	if d.LinkRate != 0 {
		speed = config.SizeText(d.LinkRate) + "/s (--link-rate)"
	}
	d.screen.say("The link to the ship is %s, %s.", d.link.url(), speed)
	if err := d.ferry(ctx, "connected-registry get-settings -n aurora -r ashore-by-link",
		"--parent-protocol http --generate-password 1 --yes",
		"--query ACR_REGISTRY_CONNECTION_STRING -o tsv", "--to-file connection-string"); err != nil {
		return err
	}
	d.ship.cfg.ConnectionStringFile = d.path("connection-string")
	d.screen.typed("ferry serve --data-dir aurora --listen "+d.ship.cfg.Listen,
		"--connection-string-file connection-string &")
	first, cutAt := d.images[0], int64(0)
	if first.fresh >= worthCutting {
		cutAt = first.fresh / 2
	}
	d.link.count(cutAt)
	if err := d.ship.start(ctx); err != nil {
		return err
	}
	if err := d.ferry(ctx, "login aurora --url "+d.ship.url+" -u admin --password-stdin",
		"< aurora/initial-admin-password"); err != nil {
		return err
	}
	if cutAt == 0 {
		return d.cross(ctx, first)
	}
	return d.crossOverACut(ctx, first)
}

// worthCutting is the size in bytes of an image whose crossing is cut: a smaller
// one comes in one go, and begins again.
const worthCutting = 4 << 20

// crossOverACut waits until the link is cut in the middle of a crossing, shows
// what the ship says then, and lets the image go on.
func (d *demo) crossOverACut(ctx context.Context, i *image) error {
	err := d.until(ctx, i.name+" does not set off", func() (bool, error) {
		d.screen.progress("cross "+i.name, d.link.received(), i.fresh)
		return d.link.isCut(), nil
	})
	if err != nil {
		return err
	}
	before := d.link.received()
	d.screen.title("The link is cut in the middle of it, after %s", config.SizeText(before))
	if err := d.until(ctx, "the ship does not see that its link is down", func() (bool, error) {
		codes, err := d.quietly(ctx, "sync status -r aurora -o tsv --query details[].code")
		return strings.Contains(codes, "LinkDown"), err
	}); err != nil {
		return err
	}
	out, err := d.ferryShown(ctx, "sync status -r aurora --open")
	if err != nil {
		return err
	}
	d.screen.say("%s", strings.TrimSpace(out))
	d.screen.title("The link is back, and the crossing goes on from the same byte")
	d.link.count(0)
	d.link.mend()
	if err := d.cross(ctx, i); err != nil {
		return err
	}
	all := before + d.link.received()
	d.screen.say("before and after the cut together %s: %s more than the image has", config.SizeText(all),
		config.SizeText(max(0, all-i.fresh)))
	return nil
}

// cross waits until the ship serves an image. The link counts from when the
// image set off.
func (d *demo) cross(ctx context.Context, i *image) error {
	start := time.Now()
	err := d.until(ctx, i.name+" does not cross", func() (bool, error) {
		d.screen.progress("cross "+i.name, d.link.received(), i.fresh)
		at, err := d.ship.admin.Resolve(ctx, i.repository, i.tag)
		return err == nil && at == i.root.Digest, nil // a ship that has nothing yet knows no repository
	})
	if err != nil {
		return err
	}
	d.screen.say("%s is on board after %.1f s", i.name, time.Since(start).Seconds())
	d.screen.say("%s came over the link, for an image of %s", config.SizeText(d.link.received()),
		config.SizeText(i.size))
	return nil
}

// until calls ready until it says so. It gives up once nothing has come over
// the link for too long.
func (d *demo) until(ctx context.Context, what string, ready func() (bool, error)) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	last, moved := d.link.received(), time.Now()
	for {
		if ok, err := ready(); err != nil || ok {
			return err
		}
		if now := d.link.received(); now != last {
			last, moved = now, time.Now()
		}
		if time.Since(moved) > patience {
			return fmt.Errorf("%s: nothing has moved for %s", what, patience)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// makeClient makes a token for the machines on board, which may pull, and pulls
// as one of them.
func (d *demo) makeClient(ctx context.Context) error {
	d.screen.title("A token for the machines on board")
	if err := d.ferry(ctx, "scope-map create -n pull-demo -r ashore",
		"--repository 'demo/*' content/read metadata/read"); err != nil {
		return err
	}
	if err := d.ferry(ctx, "token create -n deckhand -r ashore --scope-map pull-demo",
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
	if err := d.ferry(ctx, "connected-registry update -n aurora -r ashore",
		"--add-client-tokens deckhand"); err != nil {
		return err
	}
	if err := d.until(ctx, "the token does not reach the ship", func() (bool, error) {
		known, err := d.quietly(ctx, "connected-registry show -n aurora -r aurora --query clientTokenIds -o tsv")
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
	d.screen.say("pulled %s from %s as deckhand: %s,", i.name, d.deckhand.Host(), config.SizeText(i.size))
	d.screen.say("every digest verified, the image's is that of the root:\n%s", i.root.Digest)
	return nil
}

// update lets the other images cross, of which what changed moves.
func (d *demo) update(ctx context.Context) error {
	for _, i := range d.images[1:] {
		d.screen.title("The next image: %s", i.name)
		d.link.count(0)
		if err := d.push(ctx, i); err != nil {
			return err
		}
		if err := d.cross(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// switchOff stops the root, and pulls what is on board.
func (d *demo) switchOff(ctx context.Context) error {
	d.screen.title("Pull with the root switched off")
	if err := d.root.stop(); err != nil {
		return err
	}
	if _, err := d.root.admin.Resolve(ctx, d.images[0].repository, d.images[0].tag); err == nil {
		return fmt.Errorf("the root still answers at %s", d.root.url)
	}
	d.screen.say("nothing answers at %s", d.root.url)
	for _, i := range d.images {
		if err := d.pull(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// goodbye says where both registries are, and what to try.
const goodbye = `The root is on again. Both serve until you press Ctrl-C.

ashore, the root: http://{{.root}}
  admin     {{.rootPassword}}
aurora, the ship: http://{{.ship}}
  admin     {{.shipPassword}}
  deckhand  {{.password}}

Try, in another terminal:

cd {{.dir}}

export FERRY_CONFIG_DIR=$PWD/logins
{{.program}} connected-registry show -n aurora -r ashore

skopeo copy --src-tls-verify=false --src-creds deckhand:$(cat deckhand.password) \
    docker://{{.ship}}/{{.image}} dir:pulled
{{if .runs}}
podman pull --tls-verify=false --creds deckhand:$(cat deckhand.password) \
    {{.ship}}/{{.image}}
podman run --rm {{.ship}}/{{.image}}
{{end}}
What you push ashore, to demo/..., comes on board:

skopeo copy --dest-tls-verify=false --dest-creds admin:$(cat ashore/*password) \
    docker://docker.io/library/alpine docker://{{.root}}/demo/alpine:3
`

// serve starts the root again, says what there is to try, and waits for ctx.
func (d *demo) serve(ctx context.Context) error {
	d.screen.title("Now you")
	if err := d.root.start(ctx); err != nil {
		return err
	}
	var text strings.Builder
	err := template.Must(template.New("goodbye").Parse(goodbye)).Execute(&text, map[string]any{
		"root": d.root.cfg.Listen, "rootPassword": d.root.password,
		"ship": d.ship.cfg.Listen, "shipPassword": d.ship.password,
		"password": d.password, "dir": d.Dir, "program": d.Program, "runs": d.runs(),
		"image": d.images[len(d.images)-1].name,
	})
	if err != nil {
		return err
	}
	d.screen.say("%s", text.String())
	<-ctx.Done()
	d.screen.say("stopping")
	return nil
}

// runs reports whether the packed images run: they hold the program alone, so
// it must not need a dynamic linker.
func (d *demo) runs() bool {
	f, err := elf.Open(d.Program)
	if err != nil || len(d.Images) > 0 {
		return false
	}
	defer f.Close()
	libraries, err := f.ImportedLibraries()
	return err == nil && len(libraries) == 0
}
