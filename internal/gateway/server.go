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

// ServerOptions are what the parent's end is made of. Storage, ControlPlane
// and Authenticate are required.
type ServerOptions struct {
	Storage      *storage.Storage
	ControlPlane ControlPlane
	// Authenticate returns whose credentials a request has.
	Authenticate func(*http.Request) (*auth.Principal, error)
	// Feed tells Storage's feed from that of any other registry, its
	// predecessor at this address for instance: the instance's id will do.
	Feed string
	// Watermarks returns up to which sequence number of each of its ancestors'
	// feeds this registry has everything, and what it lacks all the same; nil is a
	// root, which has no ancestors.
	Watermarks func() (map[string]int64, []wire.OutOfSyncItem)
	// Ready reports whether this registry knows its connected registries: one that
	// has a parent does once that answered. nil is a root, which always does.
	Ready func() bool
	// Spread returns over how long children spread what they fetch after a
	// change; nil is not at all.
	Spread func() time.Duration
	// Suspect is called with a blob that a child got with wrong content; nil is not called.
	Suspect func(d digest.Digest)
	Log     *slog.Logger // nil discards

	maxListed int  // how many items an answer lists, about; 0 is [maxListed]
	unpaced   bool // a child may ask as fast as it likes
}

// A server answers connected registries.
type server struct {
	ServerOptions
	listings  listings
	inputs    inputs
	codec     *codec
	admission *admission
	intake    *intake
	pace      *pace
}

// NewServer returns the handlers of the gateway, for the paths below
// /gateway/v1/.
func NewServer(o ServerOptions) http.Handler {
	s := &server{
		ServerOptions: o, codec: newCodec(maxRequest), admission: newAdmission(), intake: newIntake(), pace: newPace(),
	}
	if o.unpaced {
		s.pace = nil
	}
	s.maxListed = cmp.Or(o.maxListed, maxListed)
	s.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if s.Watermarks == nil {
		s.Watermarks = func() (map[string]int64, []wire.OutOfSyncItem) { return nil, nil }
	}
	if s.Suspect == nil {
		s.Suspect = func(digest.Digest) {}
	}
	if s.Spread == nil {
		s.Spread = func() time.Duration { return 0 }
	}
	mux := http.NewServeMux()
	mux.Handle("POST "+wire.PathActivate, handle(s, s.activate, writeJSON))
	mux.Handle("POST "+wire.PathPoll, handle(s, s.poll, writeJSON))
	mux.Handle("POST "+wire.PathPlan, handle(s, s.plan, (*server).writeStream))
	mux.Handle("POST "+wire.PathBlobs, handle(s, s.batch, (*server).writeStream))
	mux.HandleFunc("/gateway/", func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, problem(http.StatusNotFound, "NOT_FOUND", "there is no such path in the gateway"))
	})
	return mux
}

// A caller is a connected registry that proved to be one.
type caller struct {
	name    string
	who     *auth.Principal
	request *http.Request
	release func() // returns the memory of the request; may be called more than once
}

// admit returns who sent r as the connected registry name, if that is who
// sent it.
func admit(r *http.Request, who *auth.Principal, name string) (caller, error) {
	if !who.Permissions.AllowsGateway(name, auth.MessageRead) {
		return caller{}, errNoGateway()
	}
	return caller{name: name, who: who, request: r, release: func() {}}, nil
}

func errNoGateway() error {
	return problem(http.StatusForbidden, "DENIED", "the token has no gateway permission for this connected registry")
}

// again returns the caller as it is now: a request that was held may have
// outlived its sender's rights.
func (s *server) again(c caller) (caller, error) {
	who, err := s.Authenticate(c.request)
	if err != nil {
		return caller{}, err
	}
	return admit(c.request, who, c.name)
}

// mayRead reports whether the caller may see a repository's content.
func (c caller) mayRead(repository string) bool {
	return c.who.Permissions.AllowsRepository(repository, auth.ContentRead)
}

// barred returns why the caller does not get what it asks for of a
// repository; "" is that it does.
func (c caller) barred(repository string) string {
	if oci.CheckRepository(repository) != nil || !c.mayRead(repository) {
		return "the sync token may not read this repository"
	}
	return ""
}

// named is a request that says for which connected registry it is.
type named interface{ Registry() string }

// handle makes an http.Handler of a method that turns a request into an answer,
// and a function that writes that, unless it returns an error.
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

// receive reads a request, once its sender is known: the body of a sender without a
// right on any gateway is not read, and each sender is held to its pace. Before this
// registry knows its children no login counts as failed.
func receive[Q any, P interface {
	*Q
	named
}](s *server, w http.ResponseWriter, r *http.Request, requests *jsonlimit.Decoder[Q], q P) (caller, error) {
	if s.Ready != nil && !s.Ready() {
		return caller{}, ErrNotReady
	}
	who, err := s.Authenticate(r)
	if err != nil {
		return caller{}, err
	}
	if !who.Permissions.AllowsAnyGateway(auth.MessageRead) {
		return caller{}, errNoGateway()
	}
	if err := s.pace.wait(r.Context(), who.Name, r.URL.Path); err != nil {
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
	c, err := admit(r, who, q.Registry())
	if err == nil {
		c.release, err = s.intake.keep(int64(used))
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
	release, err := s.intake.acquire(r.Context(), size)
	if err != nil {
		return 0, err
	}
	defer release()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		return 0, err
	}
	end, err := s.intake.decode(r.Context())
	if err != nil {
		return 0, err
	}
	defer end()
	text, err := s.codec.plain(body, r.Header.Get(headerEncoding))
	if err != nil {
		return 0, err
	}
	return requests.Unmarshal(text, q)
}

// writeJSON answers with a, compressed where that is smaller.
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

// A stream is an answer that is sent while it is made.
type stream struct {
	registry    string // that it is for
	contentType string
	compress    bool // for children that can read it
	write       func(ctx context.Context, w io.Writer) error
}

// writeStream answers with a stream. One that fails is cut off, so that the child
// does not take it for whole; what was written already is sent, and need not be
// sent again.
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
		if r.Context().Err() != nil { // the child, or its link, went away
			level = slog.LevelDebug
		}
		s.Log.Log(r.Context(), level, "answer was cut off", "registry", a.registry, "path", r.URL.Path, "err", err)
		panic(http.ErrAbortHandler)
	}
	return nil
}

// fail answers with the problem that err is, or that it stands for.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(err)
	putOff := func(least, most int) { w.Header().Set("Retry-After", strconv.Itoa(least+rand.IntN(most-least+1))) }
	switch {
	case p.Code == codeBusy:
		putOff(putOffLeast, putOffMost)
	case errors.Is(err, ErrNotReady):
		putOff(notReadyLeast, notReadyMost)
	case p.Status >= 500 && r.Context().Err() == nil: // else nobody is there, and that is why
		s.Log.Error("gateway request failed", "path", r.URL.Path, "err", err)
	}
	if s.Ready != nil && p.Code == codeUnauthorized {
		p.Hint = "if this connected registry is new, wait: its parent hears of it with its own next sync; else " +
			p.Hint
	}
	if c := (*auth.ChallengeError)(nil); errors.As(err, &c) {
		c.SetHeaders(w.Header())
	}
	s.noteRefusal(r, p)
	body, _ := json.Marshal(p.Problem) // it holds strings and a number
	w.Header().Set("Content-Type", typeProblem)
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="ferry gateway"`)
	}
	w.WriteHeader(p.Status)
	w.Write(body)
}

// noteRefusal leaves a trace of a login that was refused.
func (s *server) noteRefusal(r *http.Request, p problemError) {
	token, _, ok := r.BasicAuth()
	switch p.Status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests:
	default:
		ok = ok && p.Code == ErrAlreadyActivated.(problemError).Code
	}
	if !ok {
		return
	}
	from, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		from = r.RemoteAddr
	}
	s.ControlPlane.Refused(token, from, p.Problem)
}

func (s *server) activate(ctx context.Context, c caller, q wire.ActivateRequest) (*wire.ActivateResponse, error) {
	if q.InstanceID == "" || len(q.InstanceID) > 64 || len(q.Version) > 64 {
		return nil, invalid("instanceId is missing, or it or version is too long")
	}
	err := s.admission.enter(ctx, func() error {
		return s.ControlPlane.Activate(ctx, c.name, q.InstanceID, q.Version)
	})
	if errors.Is(err, ErrAlreadyActivated) {
		return nil, s.occupied(ctx, c)
	}
	if err != nil {
		return nil, err
	}
	s.Log.Info("connected registry is activated", "registry", c.name, "instance", q.InstanceID)
	d, err := s.ControlPlane.Desired(ctx, c.name)
	if err != nil {
		return nil, err
	}
	return &wire.ActivateResponse{Capability: agreed(q.Capability), Desired: d}, nil
}

// occupied says how the place of another instance is freed: at the root.
func (s *server) occupied(ctx context.Context, c caller) error {
	root := "ROOT"
	if d, err := s.ControlPlane.Desired(ctx, c.name); err == nil && d.Self.Parent == "" {
		root = c.request.Host
	}
	p := problemOf(ErrAlreadyActivated)
	p.Hint = "if that instance is gone, free its place: " +
		"ferry connected-registry deactivate -n " + c.name + " -r " + root
	return p
}

// maxWait is how long a poll is held at most.
const maxWait = time.Minute
