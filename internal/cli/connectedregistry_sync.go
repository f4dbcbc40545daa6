package cli

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/pflag"

	"ferry/internal/api"
)

type registryResync struct{ named }

func (o *registryResync) run(ctx context.Context, env *Env, c *client) error {
	return connectedRegistries.change(ctx, env, c, http.MethodPost, nil, o.name, "resync")
}

type registrySyncStatus struct {
	named
	syncListing
}

func (o *registrySyncStatus) define(set *pflag.FlagSet) {
	o.named.define(set)
	o.syncListing.define(set)
}

func (o *registrySyncStatus) run(ctx context.Context, env *Env, c *client) error {
	env.output = o.output
	site, err := get[api.SiteSync](ctx, c, connectedRegistries.kind, o.name, "sync-status")
	if err != nil {
		return err
	}
	path, err := resourcePath(connectedRegistries.kind, o.name, "sync-items")
	if err != nil {
		return err
	}
	items, err := o.items(ctx, env, c, path)
	if err != nil {
		return err
	}
	return o.show(env, saySite(site.value), site.raw, items, value(site.value.Sync).ItemsSynced)
}

// saySite puts what is known of a site into a few sentences.
func saySite(site api.SiteSync) string {
	text := fmt.Sprintf("%s is %s", site.Name, site.ConnectionState)
	inactive := site.Activation.Status == "Inactive"
	if inactive {
		text += ": it is not activated"
	}
	if site.Sync == nil {
		return text + ", and was never heard."
	}
	who := "it"
	if inactive {
		who = "the instance that was"
	}
	age := time.Duration(value(site.AgeSeconds)) * time.Second
	return fmt.Sprintf("%s. %s ago, at %s, %s said:\n%s", text, age, seconds(site.HeardTime), who, sayStatus(*site.Sync))
}
