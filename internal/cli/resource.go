package cli

import (
	"context"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"
)

// apiRoot is where the management API is.
const apiRoot = "/api/v1/"

// resourceVerb makes a command about the one resource that --name names.
func resourceVerb(env *Env, name *string, use, short, example string, run func(ctx context.Context, c *client) error) *cobra.Command {
	var t *target
	cmd := verb(use, short, example, func(cmd *cobra.Command) error {
		if err := require(cmd, "name"); err != nil {
			return err
		}
		c, err := t.client()
		if err != nil {
			return err
		}
		return run(cmd.Context(), c)
	})
	t = env.registryFlags(cmd)
	textVar(cmd.Flags(), name, "name", "n", "NAME", "its name")
	return cmd
}

// resource makes a call about one resource of a kind, or about what is below
// it, and returns the answer's JSON.
func (c *client) resource(ctx context.Context, method, kind, name string, body any, below ...string) (any, error) {
	path := apiRoot + kind
	for _, s := range append([]string{name}, below...) {
		segment, err := escape(s)
		if err != nil {
			return nil, err
		}
		path += "/" + segment
	}
	a, err := c.do(ctx, call{method: method, path: path, body: body})
	if err != nil {
		return nil, err
	}
	return a.value, nil
}

// putResource creates a resource, or replaces it.
func (c *client) putResource(ctx context.Context, kind, name string, body any) (any, error) {
	return c.resource(ctx, http.MethodPut, kind, name, body)
}

// list returns the resources of a kind.
func (c *client) list(ctx context.Context, kind string, query url.Values) ([]any, error) {
	a, err := c.do(ctx, call{method: http.MethodGet, path: apiRoot + kind, query: query})
	if err != nil {
		return nil, err
	}
	all, _ := member(a.value, "value").([]any)
	if all == nil {
		all = []any{}
	}
	return all, nil
}
