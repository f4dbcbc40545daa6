package cli

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"ferry/internal/config"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

type repositoryShowTags struct {
	contentTarget
	ordering
	repository string
	detail     bool
}

// An ordering is the order and the length of a list of tags or manifests.
type ordering struct {
	order string
	top   int
}

func (o *ordering) define(set *pflag.FlagSet, things, standard string) {
	choiceVar(set, &o.order, "orderby", "", "",
		"order by the time of the last update (default by "+standard+")", "time_asc", "time_desc")
	set.IntVar(&o.top, "top", 0, "show at most this many "+things+" (default all)")
}

// query returns the query of the first page.
func (o *ordering) query() url.Values {
	query := url.Values{"n": {pageSize}}
	if o.order != "" {
		query.Set("orderby", strings.ReplaceAll(o.order, "_", ""))
	}
	return query
}

func (o *repositoryShowTags) define(set *pflag.FlagSet) {
	o.contentTarget.define(set)
	textVar(set, &o.repository, "repository", "", "NAME", "the repository")
	o.ordering.define(set, "tags", "name")
	set.BoolVar(&o.detail, "detail", false, "also show digests, times and locks")
}

// A tag is a tag in the form of the API below /acr/v1/.
type tag struct {
	Name                 string          `json:"name"`
	Digest               string          `json:"digest"`
	CreatedTime          time.Time       `json:"createdTime"`
	LastUpdateTime       time.Time       `json:"lastUpdateTime"`
	ChangeableAttributes map[string]bool `json:"changeableAttributes"`
}

// locksText returns the names of the attributes that are false, such as "write, delete".
func locksText(attributes map[string]bool) string {
	var locked []string
	for _, name := range []string{"read", "write", "delete", "list"} {
		if enabled, ok := attributes[name+"Enabled"]; ok && !enabled {
			locked = append(locked, name)
		}
	}
	return strings.Join(locked, ", ")
}

func (o *repositoryShowTags) run(ctx context.Context, env *Env, c *client) error {
	if err := checkRepository(o.repository); err != nil {
		return err
	}
	all, err := pages[tag](ctx, c, "/acr/v1/"+o.repository+"/_tags", o.query(), "tags", o.top)
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
		{title: "DIGEST", text: func(t tag) string { return t.Digest }, cut: true},
		{title: "CREATED", text: func(t tag) string { return timeText(&t.CreatedTime) }, rank: 2},
		{title: "LAST UPDATE", text: func(t tag) string { return timeText(&t.LastUpdateTime) }},
		{title: "LOCKED", text: func(t tag) string { return locksText(t.ChangeableAttributes) }},
	})
}

// A manifest is a manifest in the form of the API below /acr/v1/.
type manifest struct {
	Digest               string          `json:"digest"`
	ImageSize            int64           `json:"imageSize"`
	LastUpdateTime       time.Time       `json:"lastUpdateTime"`
	Architecture         string          `json:"architecture"`
	OS                   string          `json:"os"`
	Tags                 []string        `json:"tags"`
	ChangeableAttributes map[string]bool `json:"changeableAttributes"`
}

func manifestColumns() []column[manifest] {
	return []column[manifest]{
		{title: "DIGEST", text: func(m manifest) string { return m.Digest }},
		{title: "TAGS", text: func(m manifest) string { return strings.Join(m.Tags, ", ") }, cut: true},
		{title: "PLATFORM", rank: 2,
			text: func(m manifest) string { return strings.Trim(m.OS+"/"+m.Architecture, "/") }},
		{title: "SIZE", text: func(m manifest) string { return config.SizeText(m.ImageSize) }, rank: 1},
		{title: "LAST UPDATE", text: func(m manifest) string { return timeText(&m.LastUpdateTime) }, rank: 3},
		{title: "LOCKED", text: func(m manifest) string { return locksText(m.ChangeableAttributes) }, rank: 4},
	}
}

// newShowManifests makes the command that the reference replaced by manifest list-metadata.
func newShowManifests(env *Env) *cobra.Command {
	return describe(verb(env, "show-manifests", "Show the manifests of a repository (use manifest list-metadata)", `
		ferry repository show-manifests -n home --repository factory/app --orderby time_desc --top 3`,
		&repositoryShowManifests{}, "repository"), `
Show the manifests of a repository. As in the reference, ferry manifest
list-metadata replaces this command.`)
}

type repositoryShowManifests struct {
	contentTarget
	ordering
	repository string
	detail     bool
}

func (o *repositoryShowManifests) define(set *pflag.FlagSet) {
	o.contentTarget.define(set)
	textVar(set, &o.repository, "repository", "", "NAME", "the repository")
	o.ordering.define(set, "manifests", "digest")
	set.BoolVar(&o.detail, "detail", false, "also show sizes, platforms and locks")
}

func (o *repositoryShowManifests) run(ctx context.Context, env *Env, c *client) error {
	fmt.Fprintln(env.Stderr, "hint: repository show-manifests is deprecated; use ferry manifest list-metadata")
	all, err := listManifests(ctx, c, o.repository, o.ordering)
	if err != nil {
		return err
	}
	if o.detail {
		return showAll(env, all, manifestColumns())
	}
	type short struct {
		Digest    string    `json:"digest"`
		Tags      []string  `json:"tags"`
		Timestamp time.Time `json:"timestamp"`
	}
	brief := []short{}
	for _, m := range all.value {
		brief = append(brief, short{m.Digest, m.Tags, m.LastUpdateTime})
	}
	return env.print(brief)
}

func listManifests(ctx context.Context, c *client, repository string, o ordering) (result[[]manifest], error) {
	if err := checkRepository(repository); err != nil {
		return result[[]manifest]{}, err
	}
	return pages[manifest](ctx, c, "/acr/v1/"+repository+"/_manifests", o.query(), "manifests", o.top)
}
