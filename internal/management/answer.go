package management

import (
	"context"
	"net/http"
	"net/url"
	"reflect"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"ferry/internal/api"
	"ferry/internal/auth"
	"ferry/internal/control"
	"ferry/internal/metadb"
)

// A reply is a resource with its entity tag.
type reply[T any] struct {
	ETag string `header:"ETag"`
	Body T
}

// A plain is a body without an entity tag.
type plain[T any] struct{ Body T }

// A collection has all resources of one kind.
type collection[T any] struct {
	Body struct {
		Value []T `json:"value" nullable:"false"`
	}
}

// A page contains some of the resources of one kind, in order.
type page[T any] struct {
	Body struct {
		Value    []T    `json:"value" nullable:"false"`
		NextLink string `json:"nextLink,omitempty" doc:"The address of the next page; absent on the last one."`
	}
}

// newPage returns a page with all. If there are more resources, it links to the next page. next
// returns the address of the page after the last resource.
func newPage[T any](all []T, more bool, next func(last T) string) *page[T] {
	p := &page[T]{}
	p.Body.Value = append([]T{}, all...)
	if more {
		p.Body.NextLink = next(all[len(all)-1])
	}
	return p
}

// pageAfter returns a page whose next page begins after a cursor; "" is the last page. query is that of
// the page itself, where "" stands for a parameter that was not given.
func pageAfter[T any](all []T, next, path string, query url.Values, n int) *page[T] {
	return newPage(all, next != "", func(T) string { return linkAfter(next, path, query, n) })
}

// linkAfter returns the address of a page that begins after a cursor.
func linkAfter(next, path string, query url.Values, n int) string {
	link := url.Values{"after": {next}, "n": {strconv.Itoa(n)}}
	for key, values := range query {
		if values[0] != "" {
			link[key] = values
		}
	}
	return api.Root + path + "?" + link.Encode()
}

// belowPrefix puts the path below which a proxy serves the API before the link to the next page, so that the link
// leads through the proxy.
func belowPrefix(ctx huma.Context, _ string, v any) (any, error) {
	prefix, body := ctx.Header(auth.HeaderPrefix), reflect.ValueOf(v)
	if prefix == "" || body.Kind() != reflect.Struct {
		return v, nil
	}
	link := body.FieldByName("NextLink")
	if !link.IsValid() || link.Kind() != reflect.String || link.String() == "" {
		return v, nil
	}
	linked := reflect.New(body.Type()).Elem()
	linked.Set(body)
	linked.FieldByName("NextLink").SetString(prefix + link.String())
	return linked.Interface(), nil
}

// A deletion is an answer without a body, unless a connected registry has not received the write yet.
type deletion struct {
	Status int
	Body   *api.WriteResult
}

// A resource has an entity tag of its content.
type resource interface{ EntityTag() string }

// A writeResult can list the connected registries that have not received the write yet.
type writeResult[T any] interface {
	*T
	SetUnheard(u *api.Unheard)
}

// An unheardSince is called with a resource's name before a write to it. Its result is called after
// the write, and returns the connected registries that have not received it yet; nil if there are
// none.
type unheardSince func(by control.Caller, name string) (unheard func() *api.Unheard)

// trackUnheard returns the unheardSince for a table of the control plane.
func (h *handler) trackUnheard(table metadb.ControlTable) unheardSince {
	return func(by control.Caller, name string) func() *api.Unheard {
		before := h.Control.State()
		return func() *api.Unheard {
			return h.Fleet.Unheard(by, before, metadb.ControlRow{Table: table, Name: name})
		}
	}
}

// neverUnheard is the [unheardSince] of a resource that concerns no connected registry.
func neverUnheard(control.Caller, string) func() *api.Unheard {
	return func() *api.Unheard { return nil }
}

func replied[T resource](v T, err error) (*reply[T], error) {
	return &reply[T]{ETag: v.EntityTag(), Body: v}, err
}

func listed[T any](all []T, err error) (*collection[T], error) {
	l := &collection[T]{}
	l.Body.Value = all
	return l, err
}

// An answer is the function that answers the requests of an operation.
type answer[I, O any] = func(context.Context, *I) (*O, error)

// show answers with the resource that get returns.
func show[T resource](get func(ctx context.Context, name string) (T, error)) answer[About, reply[T]] {
	return func(ctx context.Context, in *About) (*reply[T], error) { return replied(get(ctx, in.Name)) }
}

// act calls do on a resource, and answers with the resource afterwards.
func act[T resource, P writeResult[T]](
	since unheardSince, do func(context.Context, control.Caller, string) (T, error),
) answer[About, reply[T]] {
	return func(ctx context.Context, in *About) (*reply[T], error) {
		unheard := since(in.by, in.Name)
		v, err := do(ctx, in.by, in.Name)
		if err == nil {
			P(&v).SetUnheard(unheard())
		}
		return replied(v, err)
	}
}

// write calls put with the request's body, and answers with the resource afterwards.
func write[T resource, B any, P writeResult[T]](
	since unheardSince, put func(context.Context, control.Caller, string, B, control.Precondition) (T, error),
) answer[Put[B], reply[T]] {
	return func(ctx context.Context, in *Put[B]) (*reply[T], error) {
		unheard := since(in.by, in.Name)
		v, err := put(ctx, in.by, in.Name, in.Body, in.when())
		if err == nil {
			P(&v).SetUnheard(unheard())
		}
		return replied(v, err)
	}
}

// remove deletes a resource with del.
func remove(
	since unheardSince, del func(context.Context, control.Caller, string, control.Precondition) error,
) answer[Write, deletion] {
	return func(ctx context.Context, in *Write) (*deletion, error) {
		unheard := since(in.by, in.Name)
		return removed(del(ctx, in.by, in.Name, in.when()), unheard)
	}
}

// removed returns the answer to a deletion.
func removed(err error, unheard func() *api.Unheard) (*deletion, error) {
	if err != nil {
		return nil, err
	}
	n := &deletion{Status: http.StatusNoContent}
	if u := unheard(); u != nil {
		n.Status, n.Body = http.StatusOK, &api.WriteResult{Unheard: u}
	}
	return n, nil
}

// ask answers with the result of do for the request's body.
func ask[T, B any, P writeResult[T]](
	since unheardSince, do func(context.Context, control.Caller, string, B) (T, error),
) answer[Post[B], plain[T]] {
	return func(ctx context.Context, in *Post[B]) (*plain[T], error) {
		unheard := since(in.by, in.Name)
		v, err := do(ctx, in.by, in.Name, in.Body)
		if err == nil {
			P(&v).SetUnheard(unheard())
		}
		return &plain[T]{v}, err
	}
}
