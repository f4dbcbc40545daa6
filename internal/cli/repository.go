package cli

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"ferry/internal/oci"
)

func newRepositoryCommand(env *Env) *cobra.Command {
	return group("repository", "Repositories: what is in a registry",
		newRepositoryListCommand(env),
		newRepositoryShowTagsCommand(env),
		newRepositoryDeleteCommand(env),
	)
}

// repositoryFlags are those of every repository command. As in the
// reference, --name is the registry; --registry is the same.
func repositoryFlags(env *Env, cmd *cobra.Command) *target {
	t := &target{env: env, flag: "--name/-n"}
	const usage = "registry: a name saved by ferry login, or an address (default $FERRY_REGISTRY)"
	textVar(cmd.Flags(), &t.registry, "name", "n", "REGISTRY", usage)
	textVar(cmd.Flags(), &t.registry, "registry", "r", "REGISTRY", "the same as --name")
	t.credentialFlags(cmd.Flags())
	ignored(cmd.Flags(), "resource-group", "g")
	return t
}

func newRepositoryListCommand(env *Env) *cobra.Command {
	var t *target
	var top int
	cmd := verb("list", "List the repositories that you may see", `
		ferry repository list --name home
		ferry repository list -n home --query "[?starts_with(@, 'factory/')]" -o tsv`,
		func(cmd *cobra.Command) error {
			c, err := t.client()
			if err != nil {
				return err
			}
			names, err := c.pages(cmd.Context(), "/v2/_catalog", nil, "repositories", top)
			if err != nil {
				return err
			}
			return env.print(names, nil)
		})
	t = repositoryFlags(env, cmd)
	cmd.Flags().IntVar(&top, "top", 0, "show at most this many")
	return cmd
}

func newRepositoryShowTagsCommand(env *Env) *cobra.Command {
	var t *target
	var repository string
	var top int
	var detail bool
	var order *choiceFlag
	cmd := verb("show-tags", "Show the tags of a repository", `
		ferry repository show-tags -n home --repository factory/app
		ferry repository show-tags -n home --repository factory/app --orderby time_desc --top 3 --detail`,
		func(cmd *cobra.Command) error {
			if err := require(cmd, "repository"); err != nil {
				return err
			}
			if err := checkRepository(repository); err != nil {
				return err
			}
			c, err := t.client()
			if err != nil {
				return err
			}
			query := url.Values{}
			if order.value != "" {
				query.Set("orderby", strings.ReplaceAll(order.value, "_", ""))
			}
			tags, err := c.pages(cmd.Context(), "/acr/v1/"+repository+"/_tags", query, "tags", top)
			if err != nil {
				return err
			}
			if !detail {
				for i := range tags {
					tags[i] = member(tags[i], "name")
				}
				return env.print(tags, nil)
			}
			return env.print(tags, []column{
				{title: "NAME", path: "name"},
				{title: "DIGEST", path: "digest"},
				{title: "CREATED", path: "createdTime", show: seconds},
				{title: "LAST UPDATE", path: "lastUpdateTime", show: seconds},
			})
		})
	t = repositoryFlags(env, cmd)
	textVar(cmd.Flags(), &repository, "repository", "", "NAME", "the repository")
	order = choiceVar(cmd.Flags(), "orderby", "", "", "order, by time; without it, by name", "time_asc", "time_desc")
	cmd.Flags().IntVar(&top, "top", 0, "show at most this many")
	cmd.Flags().BoolVar(&detail, "detail", false, "show digests, times and locks, too")
	return cmd
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
func (c *client) pages(ctx context.Context, path string, query url.Values, list string, top int) ([]any, error) {
	if top < 0 {
		return nil, usagef("--top %d: want a number above 0", top)
	}
	if query == nil {
		query = url.Values{}
	}
	query.Set("n", strconv.Itoa(pageSize))
	all := []any{}
	for range maxPages {
		a, err := c.do(ctx, call{method: http.MethodGet, path: path, query: query})
		if err != nil {
			return nil, err
		}
		page, _ := member(a.value, list).([]any)
		all = append(all, page...)
		if top > 0 && len(all) >= top {
			return all[:top], nil
		}
		next := nextPage(a.header.Get("Link"))
		if next == nil {
			break
		}
		query = next
	}
	return all, nil
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
