package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"strings"
	"sync/atomic"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"ferry/internal/api"
	"ferry/internal/oci"
)

// A resource is a kind of resources, such as tokens.
type resource[T any] struct {
	kind    string // its name in the paths of the management API
	columns []column[T]
}

// change makes a call that changes the resource called name, and shows the answer.
func (r resource[T]) change(
	ctx context.Context, env *Env, c *client, method string, body any, name string, below ...string,
) error {
	v, err := write[T](ctx, c, method, body, r.kind, name, below...)
	if err != nil {
		return err
	}
	return show(env, v, r.columns)
}

// patch changes the resource called name. An empty patch is a usage error, which lists the
// flags that could be given.
func (r resource[T]) patch(ctx context.Context, env *Env, c *client, patch any, name, flags string) error {
	if reflect.ValueOf(patch).IsZero() {
		return usagef("nothing to change: want %s", flags)
	}
	return r.change(ctx, env, c, http.MethodPatch, patch, name)
}

// delete deletes the resource called name.
func (r resource[T]) delete(ctx context.Context, c *client, name string) error {
	return c.remove(ctx, nil, r.kind, name)
}

// A result is an answer, raw and decoded. The raw form is shown to scripts, because it
// includes members that this program does not know.
type result[T any] struct {
	raw   json.RawMessage
	value T
}

// ask makes a call whose answer is a T.
func ask[T any](ctx context.Context, c *client, r call) (v result[T], err error) {
	a, err := c.do(ctx, r)
	if err != nil {
		return v, err
	}
	v.raw = a.body
	err = c.decode(v.raw, &v.value)
	return v, err
}

// decode decodes the JSON of an answer. If there is none, v stays as it is.
func (c *client) decode(raw json.RawMessage, v any) error {
	if len(raw) == 0 {
		return nil
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return withHint(fmt.Errorf("%s sent an answer of an unexpected form", c.base),
			"is it another version of ferry?")
	}
	return nil
}

// named is the resource that a command is for, and its registry.
type named struct {
	target
	name string
}

func (n *named) define(set *pflag.FlagSet) {
	n.target.define(set)
	textVar(set, &n.name, "name", "n", "NAME", "its name")
}

// resourcePath returns the path of a resource, or of a path below it.
func resourcePath(kind, name string, below ...string) string {
	return strings.Join(append([]string{api.Root, kind, url.PathEscape(name)}, below...), "/")
}

// get returns the resource at a path; see [resourcePath].
func get[T any](ctx context.Context, c *client, kind, name string, below ...string) (result[T], error) {
	return write[T](ctx, c, http.MethodGet, nil, kind, name, below...)
}

// write makes a call that changes a resource, and returns the answer.
func write[T any](
	ctx context.Context, c *client, method string, body any, kind, name string, below ...string,
) (result[T], error) {
	return ask[T](ctx, c, call{method: method, path: resourcePath(kind, name, below...), body: body})
}

// remove deletes the resource at a path; see [resourcePath].
func (c *client) remove(ctx context.Context, query url.Values, kind, name string, below ...string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: resourcePath(kind, name, below...), query: query})
	return err
}

// maxPages bounds a listing, because a faulty server may never send the last page.
const maxPages = 100_000

// pages collects the member called list of all pages of a listing, up to top entries if
// top is above 0. The query of the next page is in the Link header of the registry API, or
// in the member nextLink of the management API. Only the query is taken from the link, so
// that a server cannot lead the client to another path.
func pages[T any](
	ctx context.Context, c *client, path string, query url.Values, list string, top int,
) (all result[[]T], err error) {
	if top < 0 {
		return all, usagef("--top %d: want 0, which is all, or more", top)
	}
	raw := []json.RawMessage{}
	var got atomic.Int64
	kind := list
	if kind == "value" { // the management API's name for the members of every list
		kind = lastSegment(path)
	}
	defer c.waits.begin(func() string { return fmt.Sprintf("listing %s of %s: %d so far", kind, c.base, got.Load()) })()
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
		next, err := c.nextPage(a, members["nextLink"])
		if err != nil {
			return all, err
		}
		raw = append(raw, page...)
		got.Store(int64(len(raw)))
		if next == nil || (top > 0 && len(raw) >= top) {
			break
		}
		if next.Encode() == query.Encode() {
			return all, fmt.Errorf("%s answered with a page that links to itself", c.base)
		}
		query = next
	}
	if top > 0 {
		raw = raw[:min(top, len(raw))]
	}
	if all.raw, err = json.Marshal(raw); err != nil {
		return all, fmt.Errorf("join pages: %w", err)
	}
	err = c.decode(all.raw, &all.value)
	return all, err
}

// nextPage returns the query of the page after an answer, from the member nextLink or from
// the Link header. It returns nil after the last page.
func (c *client) nextPage(a *answer, member json.RawMessage) (url.Values, error) {
	var link string
	if err := c.decode(member, &link); err != nil {
		return nil, err
	}
	if link != "" {
		u, err := url.Parse(link)
		if err != nil || u.RawQuery == "" {
			return nil, fmt.Errorf("%s answered with a nextLink that cannot be read", c.base)
		}
		return u.Query(), nil
	}
	next, err := oci.NextPage(a.header.Values("Link"))
	if err != nil {
		return nil, fmt.Errorf("%s sent a page of a list with an unreadable link to the next: %w", c.base, err)
	}
	return next, nil
}

// show prints a resource. The columns are those of its table.
func show[T any](e *Env, v result[T], columns []column[T]) error {
	return showAll(e, result[[]T]{v.raw, []T{v.value}}, columns)
}

// showAll prints resources. The columns are those of the table; every other form of output
// shows the raw answer of the registry.
func showAll[T any](e *Env, all result[[]T], columns []column[T]) error {
	if e.asTable() {
		return writeTable(e.Stdout, all.value, columns)
	}
	return e.print(all.raw)
}

// showOptions are the options of a verb that shows one resource.
type showOptions[T any] struct {
	named
	resource[T]
}

func (o *showOptions[T]) run(ctx context.Context, env *Env, c *client) error {
	v, err := get[T](ctx, c, o.kind, o.name)
	if err != nil {
		return err
	}
	return show(env, v, o.columns)
}

// listOptions are the options of a verb that lists all resources of a kind.
type listOptions[T any] struct {
	target
	resource[T]
}

func (o *listOptions[T]) run(ctx context.Context, env *Env, c *client) error {
	all, err := pages[T](ctx, c, api.Root+"/"+o.kind, nil, "value", 0)
	if err != nil {
		return err
	}
	return showAll(env, all, o.columns)
}

// A confirmed verb acts on one resource, after a question.
type confirmed struct {
	named
	confirmation
	question string // with %s for the name of the resource
	do       func(ctx context.Context, c *client, name string) error
}

func (o *confirmed) define(set *pflag.FlagSet) {
	o.named.define(set)
	o.confirmation.define(set)
}

func (o *confirmed) run(ctx context.Context, env *Env, c *client) error {
	if err := o.ask(env, o.question, o.name); err != nil {
		return err
	}
	return o.do(ctx, c, o.name)
}

// errDeclined says that the answer to a question was no.
var errDeclined = errors.New("nothing was done")

// A confirmation is a question that --yes answers.
type confirmation struct {
	yes bool
}

func (c *confirmation) define(set *pflag.FlagSet) {
	set.BoolVarP(&c.yes, "yes", "y", false, "do not ask for confirmation")
}

// ask returns nil if the answer is yes. Without a terminal, only --yes counts as yes. The
// question is written to standard error, so that it does not mix with the result.
func (c *confirmation) ask(env *Env, question string, args ...any) error {
	if c.yes {
		return nil
	}
	question = fmt.Sprintf(question, args...)
	if !isTerminal(env.Stdin) {
		return withHint(fmt.Errorf("%s There is no terminal for the answer", question), "add --yes")
	}
	in := bufio.NewReader(env.Stdin)
	for range 3 {
		fmt.Fprintf(env.errors, "%s (y/n): ", question)
		answer, err := in.ReadString('\n')
		switch strings.ToLower(strings.TrimSpace(answer)) {
		case "y", "yes":
			return nil
		case "n", "no":
			return errDeclined
		}
		if err != nil {
			break
		}
	}
	return errDeclined
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// draws reports whether stream is a terminal on which text can be drawn anew.
func (e *Env) draws(stream any) bool { return isTerminal(stream) && !e.dumb() }

// dumb reports whether terminals understand no control sequences.
func (e *Env) dumb() bool { return e.Getenv("TERM") == "dumb" }
