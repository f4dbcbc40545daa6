package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// startShore runs the root registry.
func (d *demo) startShore(ctx context.Context) error {
	d.screen.title("A root registry, ashore")
	d.screen.typed([]string{"ferry", "serve", "--data-dir", shoreName, "--listen", d.ashore.cfg.Listen}, "&")
	if err := d.ashore.start(ctx); err != nil {
		return err
	}
	var err error
	if d.link, err = newLink(d.ashore.cfg.Listen, d.LinkRate); err != nil {
		return err
	}
	return d.login(ctx, shoreName, d.ashore.url, d.ashore)
}

// login saves a registry under a name.
func (d *demo) login(ctx context.Context, name, url string, p *place) error {
	_, err := d.ferry(ctx, p.password, "< "+p.name+"/"+passwordFile, "login", name, "--url", url, "-u", "admin", "--password-stdin")
	return err
}

// pack makes the images, unless there are some, and pushes the first.
func (d *demo) pack(ctx context.Context) error {
	if len(d.images) > 0 {
		d.screen.title("An image, %s", d.images[0].name())
	} else {
		d.screen.title("An image of this program, in two versions")
		l, err := pack(d.Program, d.dir.join("images"))
		if err != nil {
			return err
		}
		for _, tag := range []string{firstTag, secondTag} {
			c, err := load(l, packedRepository, tag)
			if err != nil {
				return err
			}
			d.images = append(d.images, c)
		}
	}
	return d.push(ctx, d.images[0])
}

// push pushes an image to the root, as its administrator.
func (d *demo) push(ctx context.Context, c *cargo, there ...*cargo) error {
	shore, err := d.ashore.client("admin", d.ashore.password)
	if err != nil {
		return err
	}
	b, sent := d.screen.begin("push "+c.name(), c.size(there...)), int64(0)
	err = shore.Push(ctx, c.repository, c.tag, c.root, c.from, func(n int) {
		sent += int64(n)
		b.at(sent)
	})
	b.end(err)
	if err != nil {
		return err
	}
	d.screen.say("pushed %s: %d layers, %s", c.name(), c.layers, size(c.size()))
	d.screen.say("%s", c.root.Digest)
	return nil
}

// startShip makes the connected registry at the root, starts it with the
// connection string, and waits until the first image is there.
func (d *demo) startShip(ctx context.Context) error {
	d.screen.title("A connected registry, on a ship")
	pattern := "demo/*"
	if _, err := d.ferry(ctx, "", "", "connected-registry", "create", "-n", shipName, "-r", shoreName,
		"--mode", "ReadOnly", "--sync-schedule", "* * * * *", "--repository", pattern); err != nil {
		return err
	}
	// The connection string holds the address at which it is asked for: the
	// link's, so that what the ship fetches goes through it.
	if _, err := d.quietly(ctx, d.ashore.password, "login", wireName, "--url", d.link.url(), "-u", "admin", "--password-stdin"); err != nil {
		return err
	}
	d.screen.say("The link to the ship is %s, %s.", d.link.url(), d.rate())
	text, err := d.ferry(ctx, "", "> connection-string", "connected-registry", "get-settings", "-n", shipName, "-r", wireName,
		"--parent-protocol", "http", "--generate-password", "1", "--yes", "--query", "ACR_REGISTRY_CONNECTION_STRING", "-o", "tsv")
	if err != nil {
		return err
	}
	if d.ship.cfg.ConnectionStringFile, err = d.write("connection-string", text); err != nil {
		return err
	}
	d.screen.typed([]string{"ferry", "serve", "--data-dir", shipName, "--listen", d.ship.cfg.Listen,
		"--connection-string-file", d.short(d.ship.cfg.ConnectionStringFile)}, "&")
	before := d.link.received.Load()
	if err := d.ship.start(ctx); err != nil {
		return err
	}
	if err := d.cross(ctx, before, d.images[0]); err != nil {
		return err
	}
	return d.login(ctx, shipName, d.ship.url, d.ship)
}

func (d *demo) rate() string {
	if d.LinkRate == 0 {
		return "as fast as this machine"
	}
	return size(d.LinkRate) + "/s (--link-rate)"
}

// cross waits until the ship serves c, of which it has what there has. The
// link had received before bytes when c set off.
func (d *demo) cross(ctx context.Context, before int64, c *cargo, there ...*cargo) error {
	ship, err := d.ship.client("admin", d.ship.password)
	if err != nil {
		return err
	}
	start, missing := time.Now(), c.size(there...)
	b := d.screen.begin("cross "+c.name(), missing)
	received := func() int64 { return d.link.received.Load() - before }
	err = d.until(ctx, c.name()+" does not cross", received, func() (bool, error) {
		b.at(received())
		at, err := ship.Resolve(ctx, c.repository, c.tag)
		return err == nil && at == c.root.Digest, nil // a ship that has nothing yet knows no repository
	})
	b.end(err)
	if err != nil {
		return err
	}
	d.screen.say("%s is on board after %.1f s", c.name(), time.Since(start).Seconds())
	d.screen.say("%s came over the link, for an image of %s", size(received()), size(c.size()))
	return nil
}

// makeClient makes a token for the machines on board, which may pull.
func (d *demo) makeClient(ctx context.Context) error {
	d.screen.title("A token for the machines on board")
	if _, err := d.ferry(ctx, "", "", "scope-map", "create", "-n", "pull-demo", "-r", shoreName,
		"--repository", "demo/*", "content/read", "metadata/read"); err != nil {
		return err
	}
	text, err := d.ferry(ctx, "", "", "token", "create", "-n", clientName, "-r", shoreName, "--scope-map", "pull-demo")
	if err != nil {
		return err
	}
	var token struct {
		Credentials struct {
			Passwords []struct{ Value string }
		}
	}
	if err := json.Unmarshal([]byte(text), &token); err != nil || len(token.Credentials.Passwords) == 0 {
		return fmt.Errorf("read token: %v: no password", err)
	}
	d.password = token.Credentials.Passwords[0].Value
	if _, err := d.ferry(ctx, "", "", "connected-registry", "update", "-n", shipName, "-r", shoreName,
		"--add-client-tokens", clientName); err != nil {
		return err
	}
	return d.until(ctx, "the token does not reach the ship", func() int64 { return 0 }, func() (bool, error) {
		known, err := d.quietly(ctx, "", "connected-registry", "show", "-n", shipName, "-r", shipName, "--query", "clientTokenIds", "-o", "tsv")
		return strings.Contains(known, clientName), err
	})
}

// firstPull pulls on board, as a machine there.
func (d *demo) firstPull(ctx context.Context) error {
	d.screen.title("Pull on board")
	return d.pull(ctx, d.images[0])
}

func (d *demo) pull(ctx context.Context, c *cargo) error {
	client, err := d.ship.client(clientName, d.password)
	if err != nil {
		return err
	}
	bytes, err := pull(ctx, client, c)
	if err != nil {
		return fmt.Errorf("pull %s from the ship: %w", c.name(), err)
	}
	d.screen.say("pulled %s from %s as %s: %s,", c.name(), client.Host(), clientName, size(bytes))
	d.screen.say("every digest verified, the image's is that of the root:")
	d.screen.say("%s", c.root.Digest)
	return nil
}

// update lets the other images cross, of which what changed moves.
func (d *demo) update(ctx context.Context) error {
	for i, c := range d.images[1:] {
		d.screen.title("The next image: %s", c.name())
		there := d.images[:i+1]
		before := d.link.received.Load()
		if err := d.push(ctx, c, there...); err != nil {
			return err
		}
		if err := d.cross(ctx, before, c, there...); err != nil {
			return err
		}
	}
	return nil
}

// switchOff stops the root, and pulls what is on board.
func (d *demo) switchOff(ctx context.Context) error {
	d.screen.title("Pull with the root switched off")
	if err := d.ashore.halt(); err != nil {
		return err
	}
	shore, err := d.ashore.client("admin", d.ashore.password)
	if err != nil {
		return err
	}
	if _, err := shore.Resolve(ctx, d.images[0].repository, d.images[0].tag); err == nil {
		return fmt.Errorf("the root still answers at %s", d.ashore.url)
	}
	d.screen.say("nothing answers at %s", d.ashore.url)
	for _, c := range d.images {
		if err := d.pull(ctx, c); err != nil {
			return err
		}
	}
	return nil
}
