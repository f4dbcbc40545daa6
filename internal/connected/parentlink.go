package connected

import (
	"crypto/x509"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"ferry/internal/gateway"
	"ferry/internal/retry"
	"ferry/internal/wire"
)

// Pauses between tries. A link that is down is tried often, so that a sync begins
// soon after it is back. A problem that a person must solve is retried rarely.
const (
	linkPause       = time.Second
	linkMaxPause    = time.Minute
	refusedPause    = 15 * time.Second
	refusedMaxPause = 40 * time.Second // it varies by 30 %, and a token that is enabled again works within a minute
	failedMaxPause  = 5 * time.Minute
	pauseFactor     = 1.7
)

// A parentLink is the state of the link to the parent, with its back-off. It logs
// changes of the state, and not every try. It is safe for concurrent use.
type parentLink struct {
	log *slog.Logger
	now func() time.Time

	mu          sync.Mutex
	down        time.Time          // since when; zero is up
	logged      string             // the last logged error that a person must solve
	problem     *wire.StatusDetail // why the last try failed; nil if it succeeded
	backoff     *retry.Backoff     // nil if the last try succeeded
	needsPerson bool               // backoff is for a problem that a person must solve
}

// A parentError is a failure to reach the parent, or its refusal. Every other
// error of a session is this instance's own, such as one of its disk.
type parentError struct{ error }

// Unwrap returns the failure.
func (e parentError) Unwrap() error { return e.error }

// A failure is how the status and the log describe a kind of error.
type failure struct {
	kind, code  string // of the status detail
	prefix      string // of its description
	message     string // in the log
	needsPerson bool   // a person must solve it
}

func failureOf(err error) failure {
	switch {
	case !errors.As(err, &parentError{}):
		return failure{"Sync", "SyncError", "", "sync failed here, and is tried again", true}
	case errors.Is(err, gateway.ErrNotActivated):
		return failure{"Connection", codeDeactivated, "",
			"connected registry was deactivated: this instance goes on serving " +
				"what it has, and will try to activate again", true}
	case gateway.Refused(err):
		return failure{"Connection", wire.ParentRefuses, "the parent refuses this registry: ",
			"parent refuses this registry, which goes on serving what it has", true}
	case errors.Is(err, gateway.ErrNotReady):
		return failure{"Connection", codeNotReady, "", "parent does not know this registry yet, and is asked again",
			false}
	case errors.As(err, new(*gateway.AnswerError)):
		return failure{"Connection", "ParentUnwell", "the parent is not well: ", "parent is not well", false}
	}
	return failure{"Connection", codeLinkDown, "the parent cannot be reached: ", "link is down", false}
}

const (
	codeLinkDown    = "LinkDown" // of a parent that does not answer
	codeDeactivated = "Deactivated"
	codeNotReady    = "ParentNotReady" // it waits for the first answer of its own parent
)

// deactivatedError is the refusal of an instance that was deactivated while it
// ran. Its text is for people at the site.
type deactivatedError struct{ error }

// Error says where that was decided, and how the instance goes on.
func (deactivatedError) Error() string {
	return "this registry was deactivated at the root, where another instance may be meant to take its place: " +
		"it waits for " + deactivatedPause.String() +
		" before it tries to activate again, and goes on serving what it has"
}

// Unwrap returns the refusal.
func (e deactivatedError) Unwrap() error { return e.error }

// restore sets the problem that an earlier run saved; nil is none.
func (l *parentLink) restore(problem *wire.StatusDetail) { l.problem = problem }

// answered records an answer, and returns true if the link was down until then.
func (l *parentLink) answered() (wasDown bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if wasDown = !l.down.IsZero(); wasDown {
		l.log.Info("parent answers again", "after", l.now().Sub(l.down).Round(time.Second))
	} else if l.logged != "" {
		l.log.Info("parent and registry agree again")
	}
	l.down, l.logged, l.problem, l.backoff = time.Time{}, "", nil, nil
	return wasDown
}

// pauseAfterFailure records a failure of the link, the parent or this instance, and
// returns the pause before the next try.
func (l *parentLink) pauseAfterFailure(err error) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, hint, now := failureOf(err), hintFor(err), l.now()
	text, attrs := f.prefix+err.Error(), []any{"err", err}
	if hint != "" {
		text, attrs = text+"; "+hint, append(attrs, "hint", hint)
	}
	switch {
	case f.needsPerson && l.logged != err.Error():
		l.logged = err.Error()
		l.log.Error(f.message, attrs...)
	case f.code == codeNotReady && l.down.IsZero():
		l.down = now
		l.log.Info(f.message, attrs...)
	case !f.needsPerson && l.down.IsZero():
		l.down = now
		l.log.Warn(f.message, attrs...)
	}
	detail := &wire.StatusDetail{Type: f.kind, Code: f.code, Timestamp: now.UTC(), Description: clipDetail(text)}
	if l.problem != nil && l.problem.Code == f.code {
		detail.Timestamp = l.problem.Timestamp // of the first failure of this kind
	}
	l.problem = detail
	if f.code == codeNotReady { // the parent says when to try again, and that is soon
		l.backoff, l.needsPerson = nil, false
		return max(linkPause, retry.After(err))
	}
	if l.backoff == nil || l.needsPerson != f.needsPerson {
		l.backoff, l.needsPerson = retry.NewBackoff(linkPause, linkMaxPause, pauseFactor), f.needsPerson
		switch {
		case f.needsPerson && errors.As(err, &parentError{}):
			l.backoff = retry.NewBackoff(refusedPause, refusedMaxPause, pauseFactor)
		case f.needsPerson:
			l.backoff = retry.NewBackoff(refusedPause, failedMaxPause, pauseFactor)
		}
	}
	return max(l.backoff.NextBackOff(), retry.After(err))
}

// isDown returns true if the parent did not answer the last request.
func (l *parentLink) isDown() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.down.IsZero()
}

// lastingProblem returns why the last try failed if a person must solve it; nil
// otherwise. Any other problem passes by itself, or shows again with the next try.
func (l *parentLink) lastingProblem() *wire.StatusDetail {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.needsPerson {
		return nil
	}
	return l.problem
}

// current returns why the last try failed; nil if it succeeded.
func (l *parentLink) current() *wire.StatusDetail {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.problem
}

// hintFor returns the remedy for err; "" is none.
func hintFor(err error) string {
	answer := (*gateway.AnswerError)(nil)
	switch {
	case errors.Is(err, gateway.ErrNotActivated):
		return "ferry sync now tries at once"
	case errors.As(err, &answer):
		return answer.Hint
	case errors.As(err, new(x509.UnknownAuthorityError)):
		return "make this registry trust the authority of the parent's certificate: start it with SSL_CERT_FILE=ca.pem"
	case errors.As(err, new(x509.HostnameError)):
		return "name the parent, in ParentGatewayEndpoint of the connection string, as its certificate does"
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return "the parent speaks plain HTTP: make a connection string with --parent-protocol http"
	}
	return ""
}
