package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
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
	names, err := pages[string](ctx, c, "/v2/_catalog", nil, "repositories", o.top)
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
	query := url.Values{}
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
func checkRepository(name string) error {
	if err := oci.CheckRepository(name); err != nil {
		return usageError{errorText(oci.AsError(err).Message)}
	}
	return nil
}

type errorText string

func (e errorText) Error() string { return string(e) }

// pageSize is how many entries one request asks for, as the reference does.
const pageSize = 100

// maxPages bounds a listing against a server whose pages never end.
const maxPages = 100_000

// pages collects the member named list of all pages of a listing of the
// registry API, up to top entries where top is above 0.
func pages[T any](
	ctx context.Context, c *client, path string, query url.Values, list string, top int,
) (all result[[]T], err error) {
	if top < 0 {
		return all, usagef("--top %d: want a number above 0", top)
	}
	if query == nil {
		query = url.Values{}
	}
	query.Set("n", strconv.Itoa(pageSize))
	raw := []json.RawMessage{}
	for range maxPages {
		a, err := c.do(ctx, call{method: http.MethodGet, path: path, query: query})
		if err != nil {
			return all, err
		}
		var members map[string]json.RawMessage
		if err := c.decode(a.body, &members); err != nil {
			return all, err
		}
		var page []json.RawMessage
		if err := c.decode(members[list], &page); err != nil {
			return all, err
		}
		raw = append(raw, page...)
		next := nextPage(a.header.Get("Link"))
		if top > 0 && len(raw) >= top {
			raw, next = raw[:top], nil
		}
		if next == nil {
			break
		}
		query = next
	}
	if all.raw, err = json.Marshal(raw); err != nil {
		return all, fmt.Errorf("join pages: %w", err)
	}
	return all, c.decode(all.raw, &all.value)
}

// nextPage returns the query of a Link header's next page, nil where there is
// none. Its path is not followed: it is the one that was asked for.
func nextPage(link string) url.Values {
	target, rel, ok := strings.Cut(link, ">")
	if !ok || !strings.HasPrefix(target, "<") || !strings.Contains(rel, `rel="next"`) {
		return nil
	}
	u, err := url.Parse(target[1:])
	if err != nil {
		return nil
	}
	return u.Query()
}
