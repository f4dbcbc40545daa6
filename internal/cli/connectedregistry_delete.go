package cli

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/pflag"

	"ferry/internal/api"
	"ferry/internal/terminal"
)

func deactivate(ctx context.Context, c *client, name string) error {
	_, err := write[api.ConnectedRegistry](ctx, c, http.MethodPost, nil, connectedRegistries.kind, name, "deactivate")
	return err
}

type connectedRegistryDelete struct {
	named
	confirmation
	cleanup bool
}

func (o *connectedRegistryDelete) define(set *pflag.FlagSet) {
	o.named.define(set)
	set.BoolVar(&o.cleanup, "cleanup", false,
		"also delete its sync token, its scope map, and its permissions in the scope maps of its ancestors")
	o.confirmation.define(set)
}

func (o *connectedRegistryDelete) run(ctx context.Context, env *Env, c *client) error {
	if err := o.ask(env, "Are you sure you want to delete the connected registry '%s'?", o.name); err != nil {
		return err
	}
	a, err := c.do(ctx, call{method: http.MethodDelete, path: resourcePath(connectedRegistries.kind, o.name),
		query: url.Values{"cleanup": {fmt.Sprint(o.cleanup)}}})
	if err != nil {
		return err
	}
	var left api.RegistryDeletion
	if err := c.decode(a.body, &left); err != nil || len(left.Leftovers) == 0 {
		return err
	}
	fmt.Fprintf(env.Stderr, "note: its sync token and permissions are still there; to remove them:\n")
	for _, command := range left.Leftovers {
		fmt.Fprintf(env.Stderr, "  ferry %s -r %s\n", terminal.Printable(command), c.name)
	}
	return nil
}
