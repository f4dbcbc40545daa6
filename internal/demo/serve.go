package demo

import (
	"context"
	"debug/elf"
	"fmt"
	"os/exec"
	"path/filepath"
)

// serve starts the root again, says what there is to try, and waits for ctx.
func (d *demo) serve(ctx context.Context) error {
	d.screen.title("Now you")
	if err := d.ashore.start(ctx); err != nil {
		return err
	}
	d.screen.say("The root is on again. Both serve until you press Ctrl-C.\n")
	d.screen.say("%s, the root: %s", shoreName, d.ashore.url)
	d.screen.say("  admin     %s", d.ashore.password)
	d.screen.say("%s, the ship: %s", shipName, d.ship.url)
	d.screen.say("  admin     %s", d.ship.password)
	d.screen.say("  %s  %s\n", clientName, d.password)
	if _, err := d.write(clientName+".password", d.password); err != nil {
		return err
	}
	ship, shore, c := d.ship.cfg.Listen, d.ashore.cfg.Listen, d.images[len(d.images)-1]
	d.screen.say("Try, in another terminal:\n")
	d.try("cd " + d.dir.path)
	d.try("export FERRY_CONFIG_DIR=$PWD/logins",
		fmt.Sprintf("%s connected-registry show -n %s -r %s", d.program(), shipName, shoreName))
	d.try(fmt.Sprintf("skopeo copy --src-tls-verify=false --src-creds %s:$(cat %s.password) \\", clientName, clientName),
		fmt.Sprintf("    docker://%s/%s dir:pulled", ship, c.name()))
	if d.runs() {
		d.try(fmt.Sprintf("podman pull --tls-verify=false --creds %s:$(cat %s.password) \\", clientName, clientName),
			fmt.Sprintf("    %s/%s", ship, c.name()),
			fmt.Sprintf("podman run --rm %s/%s", ship, c.name()))
	}
	d.screen.say("What you push ashore, to demo/..., comes on board:\n")
	d.try(fmt.Sprintf("skopeo copy --dest-tls-verify=false --dest-creds admin:$(cat %s/*password) \\", shoreName),
		fmt.Sprintf("    docker://docker.io/library/alpine docker://%s/demo/alpine:3", shore))
	<-ctx.Done()
	d.screen.say("stopping")
	return nil
}

// try shows lines to type, and leaves one free.
func (d *demo) try(lines ...string) {
	for _, line := range lines {
		d.screen.say("%s", line)
	}
	fmt.Fprintln(d.Out)
}

// program is how the running program is called in another terminal.
func (d *demo) program() string {
	const name = "ferry"
	found, err := exec.LookPath(name)
	if err != nil {
		return d.Program
	}
	if found, err = filepath.EvalSymlinks(found); err != nil || found != d.Program {
		return d.Program
	}
	return name
}

// runs reports whether the packed images run: they hold the program alone, so
// it must not need a dynamic linker.
func (d *demo) runs() bool {
	if len(d.Images) > 0 {
		return false
	}
	f, err := elf.Open(d.Program)
	if err != nil {
		return false
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return false
		}
	}
	return true
}
