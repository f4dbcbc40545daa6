package cli

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ferry/internal/oci"
)

func newRepositoryCommand(env *Env) *cobra.Command {
	return group("repository", "Repositories: what is in a registry",
		verb(env, "list", "List the repositories that you may see", `
			ferry repository list --name home
			ferry repository list -n home --query "[?starts_with(@, 'factory/')]" -o tsv`,
			&repositoryList{}),
		verb(env, "show-tags", "Show the tags of a repository", `
			ferry repository show-tags -n home --repository factory/app
			ferry repository show-tags -n home --repository factory/app --orderby time_desc --top 3 --detail`,
			&repositoryShowTags{}, "repository"),
		verb(env, "delete", "Delete a repository, or an image with all its tags", `
			ferry repository delete -n home --repository factory/old
			ferry repository delete -n home --image factory/app:1.0 --yes
			ferry repository delete -n home --image factory/app@sha256:9f86d0... --yes`,
			&repositoryDelete{}),
	)
}

// contentTarget is the registry of a repository command. As in the reference,
// --name is the registry; --registry is the same.
type contentTarget struct{ target }

func (t *contentTarget) define(set *pflag.FlagSet) {
	t.flag = "--name/-n"
	textVar(set, &t.registry, "name", "n", "REGISTRY", registryUsage)
	textVar(set, &t.registry, "registry", "r", "REGISTRY", "the same as --name")
	t.credentialFlags(set)
	ignored(set, "resource-group", "g")
}

type repositoryList struct {
	contentTarget
	top int
}

func (o *repositoryList) define(set *pflag.FlagSet) {
	o.contentTarget.define(set)
	set.IntVar(&o.top, "top", 0, "show at most this many")
}

func (o *repositoryList) run(ctx context.Context, env *Env, c *client) error {
	names, err := pages[string](ctx, c, "/v2/_catalog", url.Values{"n": {pageSize}}, "repositories", o.top)
	if err != nil {
		return err
	}
	return env.print(names.raw)
}

type repositoryShowTags struct {
	contentTarget
	repository string
	order      string
	top        int
	detail     bool
}

func (o *repositoryShowTags) define(set *pflag.FlagSet) {
	o.contentTarget.define(set)
	textVar(set, &o.repository, "repository", "", "NAME", "the repository")
	choiceVar(set, &o.order, "orderby", "", "", "order, by time; without it, by name", "time_asc", "time_desc")
	set.IntVar(&o.top, "top", 0, "show at most this many")
	set.BoolVar(&o.detail, "detail", false, "show digests, times and locks, too")
}

// A tag is one of a repository, as /acr/v1/ lists it.
type tag struct {
	Name           string    `json:"name"`
	Digest         string    `json:"digest"`
	CreatedTime    time.Time `json:"createdTime"`
	LastUpdateTime time.Time `json:"lastUpdateTime"`
}

func (o *repositoryShowTags) run(ctx context.Context, env *Env, c *client) error {
	if err := checkRepository(o.repository); err != nil {
		return err
	}
	query := url.Values{"n": {pageSize}}
	if o.order != "" {
		query.Set("orderby", strings.ReplaceAll(o.order, "_", ""))
	}
	all, err := pages[tag](ctx, c, "/acr/v1/"+o.repository+"/_tags", query, "tags", o.top)
	if err != nil {
		return err
	}
	if !o.detail {
		names := []string{}
		for _, t := range all.value {
			names = append(names, t.Name)
		}
		return env.print(names)
	}
	return showAll(env, all, []column[tag]{
		{title: "NAME", text: func(t tag) string { return t.Name }},
		{title: "DIGEST", text: func(t tag) string { return t.Digest }},
		{title: "CREATED", text: func(t tag) string { return seconds(&t.CreatedTime) }},
		{title: "LAST UPDATE", text: func(t tag) string { return seconds(&t.LastUpdateTime) }},
	})
}

// checkRepository makes of a malformed name a usage error, before it can
// change which path is called.
func checkRepository(name string) error { return malformed(oci.CheckRepository(name)) }

// malformed makes a usage error of an error of the specification.
func malformed(err error) error {
	if err == nil {
		return nil
	}
	return usageError{errors.New(oci.AsError(err).Message)}
}

// pageSize is how many entries one request asks for, as the reference does.
const pageSize = "100"
