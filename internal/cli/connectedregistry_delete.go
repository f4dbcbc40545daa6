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
	left, err := c.leftovers(ctx, o.name)
	if err != nil {
		return err
	}
	query := url.Values{"cleanup": {fmt.Sprint(o.cleanup)}}
	if err := c.remove(ctx, query, connectedRegistries.kind, o.name); err != nil || o.cleanup {
		return err
	}
	fmt.Fprintf(env.Stderr, "note: its sync token and permissions are still there; to remove them:\n")
	for _, command := range left {
		fmt.Fprintf(env.Stderr, "  ferry %s -r %s\n", terminal.Printable(command), c.name)
	}
	return nil
}

// maxAncestors bounds the way up from a connected registry to the root.
const maxAncestors = 100

// leftovers returns the commands that delete what a deleted connected registry leaves
// behind: its sync token, the token's scope map, and the permissions on its gateway in the
// scope maps of its ancestors.
func (c *client) leftovers(ctx context.Context, name string) (commands []string, err error) {
	at := name
	for range maxAncestors {
		r, err := get[api.ConnectedRegistry](ctx, c, connectedRegistries.kind, at)
		if err != nil {
			return nil, err
		}
		token := lastSegment(r.value.Parent.SyncProperties.TokenID)
		t, err := get[api.Token](ctx, c, tokens.kind, token)
		if err != nil && statusOf(err) != http.StatusNotFound {
			return nil, err
		}
		if err == nil && at == name {
			commands = append(commands, "token delete --yes -n "+token)
		}
		switch scopeMap := lastSegment(t.value.ScopeMapID); {
		case scopeMap == "":
		case at == name:
			commands = append(commands, "scope-map delete --yes -n "+scopeMap)
		default:
			const actions = "config/read config/write message/read message/write"
			commands = append(commands, "scope-map update -n "+scopeMap+" --remove-gateway "+name+" "+actions)
		}
		if at = lastSegment(value(r.value.Parent.ID)); at == "" {
			break
		}
	}
	return commands, nil
}
