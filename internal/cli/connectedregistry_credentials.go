package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/pflag"

	"ferry/internal/api"
)

// maxGiven bounds the text with credentials, in bytes.
const maxGiven = 4096

type setCredentials struct {
	target
	stdin bool
}

func (o *setCredentials) define(set *pflag.FlagSet) {
	o.target.define(set)
	set.BoolVar(&o.stdin, "stdin", false,
		"read the connection string, or the password, from standard input, because arguments are visible to others")
}

func (o *setCredentials) run(ctx context.Context, env *Env, c *client) error {
	text, err := io.ReadAll(io.LimitReader(env.Stdin, maxGiven+1))
	if err != nil {
		return fmt.Errorf("read credentials: %w", err)
	}
	put := api.CredentialsPut{Credentials: strings.TrimSpace(strings.TrimPrefix(string(text), "\ufeff"))}
	switch {
	case put.Credentials == "":
		return usagef("standard input has no credentials")
	case len(text) > maxGiven:
		return usagef("standard input has more than %d bytes: want a connection string, or a password", maxGiven)
	}
	r, err := ask[api.CredentialsResult](ctx, c,
		call{method: http.MethodPut, path: api.Root + "/sync/credentials", body: put})
	if err != nil {
		return err
	}
	switch r.value.State {
	case api.CredentialsRefused:
		return withHint(errors.New("the parent refuses these credentials; the site goes on with those that it had"),
			"make others at the root: ferry connected-registry get-settings -n NAME --generate-password 1")
	case api.CredentialsUntried:
		fmt.Fprintln(env.Stderr, "note: the parent has not answered yet; the site tries the credentials as soon as "+
			"it does")
	}
	return show(env, r, []column[api.CredentialsResult]{
		{title: "STATE", text: func(r api.CredentialsResult) string { return r.State }},
	})
}
