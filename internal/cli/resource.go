package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/pflag"

	"ferry/internal/api"
)

// apiRoot is where the management API is.
const apiRoot = api.Root + "/"

// The kinds of resources, as the paths of the management API name them.
const (
	connectedRegistries = "connected-registries"
	imports             = "imports"
	mirrorRules         = "mirror-rules"
	scopeMaps           = "scope-maps"
	tokens              = "tokens"
)

// A result is an answer, as it was sent and decoded. Scripts get the former,
// with members that this program does not know.
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
	return v, c.decode(v.raw, &v.value)
}

// decode reads the JSON of an answer; none is nothing to read.
func (c *client) decode(raw json.RawMessage, v any) error {
	if len(raw) == 0 {
		return nil
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return withHint(fmt.Errorf("%s answered with something else than was asked for", c.base),
			"is it another version of ferry?")
	}
	return nil
}

// named is the one resource that a command is for, and its registry.
type named struct {
	target
	name string
}

func (n *named) define(set *pflag.FlagSet) {
	n.target.define(set)
	textVar(set, &n.name, "name", "n", "NAME", "its name")
}

// resourcePath is the path of a resource, or of something below it.
func resourcePath(kind, name string, below ...string) (string, error) {
	path := apiRoot + kind
	for _, s := range append([]string{name}, below...) {
		segment, err := escape(s)
		if err != nil {
			return "", err
		}
		path += "/" + segment
	}
	return path, nil
}

// get returns a resource, or what is below it.
func get[T any](ctx context.Context, c *client, kind, name string, below ...string) (result[T], error) {
	return write[T](ctx, c, http.MethodGet, nil, kind, name, below...)
}

// write makes a call that changes a resource, and returns the answer.
func write[T any](
	ctx context.Context, c *client, method string, body any, kind, name string, below ...string,
) (v result[T], err error) {
	path, err := resourcePath(kind, name, below...)
	if err != nil {
		return v, err
	}
	return ask[T](ctx, c, call{method: method, path: path, body: body})
}

// remove deletes a resource, or what is below it.
func (c *client) remove(ctx context.Context, query url.Values, kind, name string, below ...string) error {
	path, err := resourcePath(kind, name, below...)
	if err == nil {
		_, err = c.do(ctx, call{method: http.MethodDelete, path: path, query: query})
	}
	return err
}

// list returns the resources of a kind.
func list[T any](ctx context.Context, c *client, kind string, query url.Values) (all result[[]T], err error) {
	page, err := ask[struct {
		Value json.RawMessage `json:"value"`
	}](ctx, c, call{method: http.MethodGet, path: apiRoot + kind, query: query})
	if err != nil {
		return all, err
	}
	all.raw = page.value.Value
	if err := c.decode(all.raw, &all.value); err != nil || all.value != nil {
		return all, err
	}
	all.raw = json.RawMessage("[]")
	return all, nil
}

// show prints a resource; columns are of its table.
func show[T any](e *Env, v result[T], columns []column[T]) error {
	return showAll(e, result[[]T]{v.raw, []T{v.value}}, columns)
}

// showAll prints resources; columns are of their table. Every other form of
// output, and a query, are of what the registry answered.
func showAll[T any](e *Env, all result[[]T], columns []column[T]) error {
	if e.output == "table" && e.query == "" {
		return writeTable(e.Stdout, all.value, columns)
	}
	return e.print(all.raw)
}

// showOptions are those of a verb that shows one resource.
type showOptions[T any] struct {
	named
	kind    string
	columns []column[T]
}

func (o *showOptions[T]) run(ctx context.Context, env *Env, c *client) error {
	v, err := get[T](ctx, c, o.kind, o.name)
	if err != nil {
		return err
	}
	return show(env, v, o.columns)
}

// listOptions are those of a verb that lists all resources of a kind.
type listOptions[T any] struct {
	target
	kind    string
	columns []column[T]
}

func (o *listOptions[T]) run(ctx context.Context, env *Env, c *client) error {
	all, err := list[T](ctx, c, o.kind, nil)
	if err != nil {
		return err
	}
	return showAll(env, all, o.columns)
}

// deleteOptions are those of a verb that deletes one resource.
type deleteOptions struct {
	named
	confirmation
	kind, question string
}

func (o *deleteOptions) define(set *pflag.FlagSet) {
	o.named.define(set)
	o.confirmation.define(set)
}

func (o *deleteOptions) run(ctx context.Context, env *Env, c *client) error {
	if err := o.ask(env, o.question, o.name); err != nil {
		return err
	}
	return c.remove(ctx, nil, o.kind, o.name)
}
