package connected

import (
	"crypto/x509"
	"errors"
	"log/slog"
	"strings"
	"time"

	"ferry/internal/gateway"
	"ferry/internal/retry"
)

// How long to pause between tries: of a link that is down, to which nobody
// listens, so that it is used soon after it comes back; and of a parent that
// refuses, until a person does something about it.
const (
	linkPause       = time.Second
	linkMaxPause    = time.Minute
	refusedPause    = 15 * time.Second
	refusedMaxPause = 5 * time.Minute
	pauseFactor     = 1.7
)

// A link is what is known of the way to the parent. It says what it finds
// out when it finds it out, and not with every try.
type link struct {
	log  *slog.Logger
	now  func() time.Time
	down time.Time // since when; zero is up
	said string    // the refusal, or the failure here, that was logged last
	wait *retry.Backoff
	slow bool // wait is for something that a person must see to
}

// A localError is this instance's own failure, of its disk for instance.
type localError struct{ error }

// Unwrap returns the failure.
func (e localError) Unwrap() error { return e.error }

// local marks err, unless it is nil, as this instance's own.
func local(err error) error {
	if err == nil {
		return nil
	}
	return localError{err}
}

// refused reports whether the parent was reached and does not want this
// instance as it is.
func refused(err error) bool {
	for _, e := range []error{gateway.ErrAlreadyActivated, gateway.ErrNotActivated, gateway.ErrUnauthorized, gateway.ErrUnknown} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// good notes an answer, and reports whether the link was down until then.
func (l *link) good() (back bool) {
	if back = !l.down.IsZero(); back {
		l.log.Info("parent answers again", "after", l.now().Sub(l.down).Round(time.Second))
	} else if l.said != "" {
		l.log.Info("parent and registry agree again")
	}
	l.down, l.said, l.wait = time.Time{}, "", nil
	return back
}

// bad notes a failure and returns how long to wait before the next try.
func (l *link) bad(err error) time.Duration {
	own := errors.As(err, &localError{})
	slow := own || refused(err)
	switch {
	case slow && l.said == err.Error():
	case own:
		l.said = err.Error()
		l.log.Error("sync failed here, and is tried again", "err", err)
	case slow:
		l.said = err.Error()
		l.log.Error("parent refuses this registry, which goes on serving what it has", advised(err)...)
	case l.down.IsZero():
		l.down = l.now()
		text := "link is down"
		if errors.As(err, new(*gateway.AnswerError)) {
			text = "parent is not well"
		}
		l.log.Warn(text, advised(err)...)
	}
	if l.wait == nil || l.slow != slow {
		l.wait, l.slow = retry.NewBackoff(linkPause, linkMaxPause, pauseFactor), slow
		if slow {
			l.wait = retry.NewBackoff(refusedPause, refusedMaxPause, pauseFactor)
		}
	}
	return max(l.wait.NextBackOff(), retry.After(err))
}

// advised is err as attributes of a log, with what its reader can do about it.
func advised(err error) []any {
	if hint := hintFor(err); hint != "" {
		return []any{"err", err, "hint", hint}
	}
	return []any{"err", err}
}

// hintFor is what a person can do about err; "" is nothing that is known.
func hintFor(err error) (hint string) {
	answer := (*gateway.AnswerError)(nil)
	switch {
	case errors.As(err, &answer):
		hint = answer.Hint
	case errors.As(err, new(x509.UnknownAuthorityError)):
		hint = "let this registry trust the authority of the parent's certificate: start it with SSL_CERT_FILE=ca.pem"
	case errors.As(err, new(x509.HostnameError)):
		hint = "name the parent, in ParentGatewayEndpoint of the connection string, as its certificate does"
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		hint = "the parent speaks plain HTTP: make a connection string with --parent-protocol http"
	}
	return hint
}
