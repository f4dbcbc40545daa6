package gateway

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"ferry/internal/auth"
	"ferry/internal/jsonlimit"
	"ferry/internal/oci"
	"ferry/internal/storage"
	"ferry/internal/wire"
)

// ServerOptions are the parts and settings of the parent's side. Storage,
// ControlPlane and Authenticate are required.
type ServerOptions struct {
	Storage      *storage.Storage
	ControlPlane ControlPlane
	// Authenticate returns the principal of a request's credentials.
	Authenticate func(*http.Request) (*auth.Principal, error)
	// Limit counts a request that authenticates with something else than a password, as if it were a
	// login with the name. It returns an error if its sender has failed too often. nil limits none.
	Limit func(r *http.Request, name string) (end func(right bool), err error)
	// Feed identifies Storage's feed among those of all registries, even of an earlier one at this
	// address. The instance's id is a good value.
	Feed string
	// Watermarks returns, for each ancestor's feed, the sequence number up to which this registry
	// has everything, and the items that it lacks all the same. nil is a root, without ancestors.
	Watermarks func() (map[string]int64, []wire.OutOfSyncItem)
	// WatermarksChanged returns a channel that is closed when the results of Watermarks next
	// change; nil is a root.
	WatermarksChanged func() <-chan struct{}
	// Polling is called with the name of a child when its poll begins, and end when the poll ends.
	// answered reports that the answer was sent, and that the child has not disconnected. nil is not
	// called.
	Polling func(child string) (end func(answered bool))
	// Ready reports whether this registry knows its connected registries. A registry with a parent
	// does after the parent's first answer. nil is a root, which always does.
	Ready func() bool
	// Spread returns the time over which children spread their requests after a change; nil is
	// none.
	Spread func() time.Duration
	// Receive stores events and audit entries that a child sent, and returns how many of the first of
	// each need not be sent again. nil takes none.
	Receive func(ctx context.Context, child string, events []wire.Event, audit []wire.AuditEntry) (wire.Stored, error)
	// Suspect is called with a blob that a child got with wrong content; nil is not called.
	Suspect func(d digest.Digest)
	// Writable returns an error if clients may not do action here; nil allows everything.
	Writable func(repository string, need ...auth.Action) error
	// AuditNote returns a function that writes to the audit log; nil writes nothing.
	AuditNote func(actor, sender, action, object, detail string) storage.Note
	Log       *slog.Logger // nil discards

	maxListed int  // about how many items an answer lists; 0 is [maxListed]
	unlimited bool // children have no rate limits
}

// A server answers connected registries.
type server struct {
	ServerOptions
	listings   listingCache
	filters    filterCache
	watermarks sentWatermarks
	codec      *codec
	admission  *admission
	memory     *requestMemory
	rateLimits *rateLimits
}

// NewServer returns the handlers of the gateway, for the paths below
// /gateway/v1/.
func NewServer(o ServerOptions) http.Handler {
	s := &server{
		ServerOptions: o, codec: newCodec(maxRequest), admission: newAdmission(),
		memory: newRequestMemory(), rateLimits: newRateLimits(),
	}
	if o.unlimited {
		s.rateLimits = nil
	}
	s.maxListed = cmp.Or(o.maxListed, maxListed)
	s.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if s.Watermarks == nil {
		s.Watermarks = func() (map[string]int64, []wire.OutOfSyncItem) { return nil, nil }
	}
	if s.WatermarksChanged == nil {
		s.WatermarksChanged = func() <-chan struct{} { return nil }
	}
	if s.Polling == nil {
		s.Polling = func(string) func(bool) { return func(bool) {} }
	}
	if s.Limit == nil {
		s.Limit = func(*http.Request, string) (func(bool), error) { return func(bool) {}, nil }
	}
	if s.Suspect == nil {
		s.Suspect = func(digest.Digest) {}
	}
	if s.Writable == nil {
		s.Writable = func(string, ...auth.Action) error { return nil }
	}
	if s.AuditNote == nil {
		s.AuditNote = func(_, _, _, _, _ string) storage.Note { return nil }
	}
	if s.Spread == nil {
		s.Spread = func() time.Duration { return 0 }
	}
	mux := http.NewServeMux()
	mux.Handle("POST "+wire.PathActivate, handle(s, s.activate, writeJSON))
	mux.Handle("POST "+wire.PathPoll, handle(s, s.poll, writeJSON))
	mux.Handle("POST "+wire.PathPlan, handle(s, s.plan, (*server).writeStream))
	mux.Handle("POST "+wire.PathBlobs, handle(s, s.batch, (*server).writeStream))
	mux.Handle("POST "+wire.PathPush, handle(s, s.push, writeJSON))
	mux.Handle("POST "+wire.PathJoin, s.joinHandler())
	mux.HandleFunc("/gateway/", func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, problem(http.StatusNotFound, "NOT_FOUND", "there is no such path in the gateway"))
	})
	return mux
}

// A caller is the authenticated connected registry that sent a request.
type caller struct {
	name      string
	principal *auth.Principal
	request   *http.Request
	release   func() // returns the memory of the request; may be called more than once
}

// admit returns the caller of r, if its token may act as the connected registry
// name.
func admit(r *http.Request, principal *auth.Principal, name string) (caller, error) {
	if !principal.Permissions.AllowsGateway(name, auth.MessageRead) {
		return caller{}, errNoGateway()
	}
	return caller{name: name, principal: principal, request: r, release: func() {}}, nil
}

func errNoGateway() error {
	return problem(http.StatusForbidden, "DENIED", "the token has no gateway permission for this connected registry")
}

// reauthenticate returns the caller with its current rights, which may have
// changed while its request was held.
func (s *server) reauthenticate(c caller) (caller, error) {
	principal, err := s.Authenticate(c.request)
	if err != nil {
		return caller{}, err
	}
	return admit(c.request, principal, c.name)
}

// mayRead reports whether the caller may see a repository's content.
func (c caller) mayRead(repository string) bool {
	return c.principal.Permissions.AllowsRepository(repository, auth.ContentRead)
}

// whyDenied returns why the caller may not read a repository; "" is that it may.
func (c caller) whyDenied(repository string) string {
	if oci.CheckRepository(repository) != nil || !c.mayRead(repository) {
		return "the sync token may not read this repository"
	}
	return ""
}

// named is a request that names its connected registry.
type named interface{ Registry() string }

// handle makes an http.Handler of two functions: answer turns a request into an
// answer, and write writes that. An error of either is answered as a problem.
func handle[Q any, A any, P interface {
	*Q
	named
}](
	s *server,
	answer func(context.Context, caller, Q) (A, error),
	write func(*server, http.ResponseWriter, *http.Request, A) error,
) http.Handler {
	requests := jsonlimit.New[Q](maxRequestValues)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q Q
		var a A
		c, err := receive(s, w, r, requests, P(&q))
		if err == nil {
			defer c.release()
			a, err = answer(r.Context(), c, q)
		}
		if err == nil {
			err = write(s, w, r, a)
		}
		if err != nil {
			s.fail(w, r, err)
		}
	})
}

// receive authenticates the sender of a request, and then reads the request. It
// reads no body of a sender that may use no gateway, and it limits each sender's
// rate. No login counts as failed before this registry knows its children.
func receive[Q any, P interface {
	*Q
	named
}](s *server, w http.ResponseWriter, r *http.Request, requests *jsonlimit.Decoder[Q], q P) (caller, error) {
	if s.Ready != nil && !s.Ready() {
		return caller{}, ErrNotReady
	}
	principal, err := s.Authenticate(r)
	if err != nil {
		return caller{}, err
	}
	if !principal.Permissions.AllowsAnyGateway(auth.MessageRead) {
		return caller{}, errNoGateway()
	}
	if err := s.rateLimits.wait(r.Context(), principal.Name, r.URL.Path); err != nil {
		return caller{}, err
	}
	used, err := readBody(s, w, r, requests, q)
	if r.Context().Err() != nil {
		return caller{}, context.Cause(r.Context())
	}
	if errors.As(err, new(problemError)) {
		return caller{}, err
	}
	if errors.Is(err, jsonlimit.ErrTooLarge) || errors.As(err, new(*http.MaxBytesError)) {
		return caller{}, problem(http.StatusRequestEntityTooLarge, "INVALID", "the request is too large")
	}
	if err != nil {
		return caller{}, invalid("the request is not valid: %v", err)
	}
	c, err := admit(r, principal, q.Registry())
	if err == nil {
		c.release, err = s.memory.keep(int64(used))
	}
	return c, err
}

// readBody reads the body of a request into q, and returns how much memory q takes.
func readBody[Q any](
	s *server, w http.ResponseWriter, r *http.Request, requests *jsonlimit.Decoder[Q], q *Q,
) (memory int, err error) {
	size := r.ContentLength
	if size > maxRequest {
		return 0, jsonlimit.ErrTooLarge
	}
	if size < 0 {
		size = maxRequest
	}
	release, err := s.memory.acquire(r.Context(), size)
	if err != nil {
		return 0, err
	}
	defer release()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		return 0, err
	}
	end, err := s.memory.decode(r.Context())
	if err != nil {
		return 0, err
	}
	defer end()
	text, err := s.codec.plain(body, r.Header.Get(headerEncoding))
	if err != nil {
		return 0, err
	}
	if text, err = fromVersion1(text, reportRenames(), maxRequest); err != nil {
		return 0, err
	}
	return requests.Unmarshal(text, q)
}

// writeJSON answers with a, compressed if that is smaller.
func writeJSON[A any](s *server, w http.ResponseWriter, r *http.Request, a A) error {
	body, encoding, err := s.codec.encode(a)
	if err == nil && encoding != "" && !acceptsZstd(r) {
		encoding = ""
		body, err = json.Marshal(a)
	}
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", typeJSON)
	if encoding != "" {
		w.Header().Set(headerEncoding, encoding)
	}
	w.Write(body)
	return nil
}

// A stream is an answer that is sent while it is computed.
type stream struct {
	registry    string // of the caller
	contentType string
	compress    bool // if the child accepts that
	write       func(ctx context.Context, w io.Writer) error
}

// writeStream answers with a stream. A stream that fails is aborted, so that the
// child does not take it for complete. The entries before that are sent, and the
// child need not ask for them again.
func (s *server) writeStream(w http.ResponseWriter, r *http.Request, a stream) error {
	end, err := s.admission.stream()
	if err != nil {
		return err
	}
	defer end()
	w.Header().Set("Content-Type", a.contentType)
	out := bufio.NewWriterSize(w, streamBuffer)
	finish, flush := out.Flush, out.Flush
	if a.compress && acceptsZstd(r) {
		z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
		if err != nil {
			return err
		}
		w.Header().Set(headerEncoding, encodingZstd)
		out = bufio.NewWriterSize(z, streamBuffer)
		finish = func() error { return errors.Join(out.Flush(), z.Close()) }
		flush = func() error { return errors.Join(out.Flush(), z.Flush()) }
	}
	if err = a.write(r.Context(), out); err == nil {
		err = finish()
	}
	if err != nil {
		_ = errors.Join(flush(), http.NewResponseController(w).Flush())
		level := slog.LevelWarn
		if r.Context().Err() != nil { // the child left, or its link is down
			level = slog.LevelDebug
		}
		s.Log.Log(r.Context(), level, "answer was cut off", "registry", a.registry, "path", r.URL.Path, "err", err)
		panic(http.ErrAbortHandler)
	}
	return nil
}

// fail answers with the problem of err.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(err)
	retryAfter := func(least, most int) { w.Header().Set("Retry-After", strconv.Itoa(least+rand.IntN(most-least+1))) }
	switch {
	case p.Code == codeBusy, p.Code == codeUnavailable:
		retryAfter(busyRetryMin, busyRetryMax)
	case errors.Is(err, ErrNotReady):
		retryAfter(notReadyRetryMin, notReadyRetryMax)
	case p.Status >= 500 && r.Context().Err() == nil: // else it failed because the child left
		s.Log.Error("gateway request failed", "path", r.URL.Path, "err", err)
	}
	if s.Ready != nil && p.Code == codeUnauthorized {
		p.Hint = "if this connected registry is new, wait: its parent hears of it with its own next sync; else " +
			p.Hint
	}
	if c := (*auth.ChallengeError)(nil); errors.As(err, &c) {
		c.SetHeaders(w.Header())
	}
	s.recordRefusal(r, p)
	body, _ := json.Marshal(p.Problem) // it holds strings and a number
	w.Header().Set("Content-Type", typeProblem)
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="ferry gateway"`)
	}
	w.WriteHeader(p.Status)
	w.Write(body)
}

// recordRefusal records a refused login.
func (s *server) recordRefusal(r *http.Request, p problemError) {
	token, _, ok := r.BasicAuth()
	switch p.Status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests:
	default:
		ok = ok && p.Code == ErrAlreadyActivated.(problemError).Code
	}
	if !ok {
		return
	}
	s.ControlPlane.Refused(token, sender(r), p.Problem)
}

// sender returns the address that a request came from, without its port.
func sender(r *http.Request) string {
	from, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return from
}

func (s *server) activate(ctx context.Context, c caller, q wire.ActivateRequest) (*wire.ActivateResponse, error) {
	if q.InstanceID == "" || len(q.InstanceID) > 64 || len(q.Version) > 64 {
		return nil, invalid("instanceId is missing, or it or version is too long")
	}
	err := s.admission.enter(ctx, func() error {
		return s.ControlPlane.Activate(ctx, c.name, q.InstanceID, q.Version, sender(c.request))
	})
	if errors.Is(err, ErrAlreadyActivated) {
		return nil, s.alreadyActivated(ctx, c)
	}
	if err != nil {
		return nil, err
	}
	s.Log.Info("connected registry is activated", "registry", c.name, "instance", q.InstanceID)
	d, err := s.ControlPlane.Desired(ctx, c.name)
	if err != nil {
		return nil, err
	}
	return &wire.ActivateResponse{Capability: commonCapability(q.Capability), Desired: d}, nil
}

// alreadyActivated returns [ErrAlreadyActivated] with a hint how an operator ends
// the activation of the other instance at the root.
func (s *server) alreadyActivated(ctx context.Context, c caller) error {
	root := "ROOT"
	if d, err := s.ControlPlane.Desired(ctx, c.name); err == nil && d.Self.Parent == "" {
		root = c.request.Host
	}
	p := problemOf(ErrAlreadyActivated)
	p.Hint = "if that instance is gone, free its place: " +
		"ferry connected-registry deactivate -n " + c.name + " -r " + root
	return p
}

// maxWait is the longest time that a poll is held.
const maxWait = time.Minute
