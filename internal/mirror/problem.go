package mirror

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"ferry/internal/oci"
	"ferry/internal/outbound"
	"ferry/internal/remote"
	"ferry/internal/retry"
)

// unusable reports whether the source cannot be asked over the protocol, or with
// the login, that the operator chose.
func unusable(err error) bool {
	return speaksNoTLS(err) ||
		errors.As(err, new(*tls.CertificateVerificationError)) || errors.As(err, new(*remote.LoginError))
}

func speaksNoTLS(err error) bool {
	return errors.Is(err, http.ErrSchemeMismatch) || errors.As(err, new(tls.RecordHeaderError))
}

// concernsOne reports whether err may be about what was asked for alone, and not
// about the source: that answered, does not refuse the login, and does not ask
// for a pause.
func concernsOne(err error) bool {
	switch retry.Status(err) {
	case 0:
		return errors.As(err, new(*outbound.RefusedError))
	case http.StatusUnauthorized, http.StatusRequestTimeout, http.StatusTooManyRequests:
		return false
	}
	return retry.After(err) == 0
}

// An unreachableError says that a source did not answer several times in a row,
// and may answer another time.
type unreachableError struct{ error }

// Unwrap returns the last answer.
func (e unreachableError) Unwrap() error { return e.error }

// hint says what a person can do about err; "" is nothing.
func hint(err error) string {
	switch {
	case errors.Is(err, ErrExists):
		return "--force moves it"
	case errors.Is(err, ErrStopped) || errors.As(err, &unreachableError{}):
		return "run the same import again: it goes on from the same byte"
	case speaksNoTLS(err):
		return "the source speaks no TLS: put http:// before it"
	case errors.As(err, new(x509.UnknownAuthorityError)):
		return "trust the authority that its certificate is from: --ca-file FILE"
	case errors.As(err, new(*remote.LoginError)):
		return "install that helper where the registry runs, or give --username and --password-stdin"
	}
	if e := oci.AsError(err); e != nil && (e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden) {
		return "give --username and --password-stdin, or docker login as the user that the registry runs as; " +
			"many registries say this of what they do not have, too"
	}
	return ""
}

// describe puts into words why nothing comes from a source, and until when that
// asked for a pause, if it did; "" if err is nil. There is a line's room beside
// a progress bar, so the name of the requested thing is left out.
func describe(until time.Time, err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	if answer := oci.AsError(err); answer != nil {
		text = answer.Error()
	} else if link := (*net.OpError)(nil); errors.As(err, &link) {
		text = link.Error()
	}
	if !until.IsZero() {
		text = "held off until " + until.UTC().Format("15:04:05 UTC") + ": " + text
	}
	return text
}

// An absence says in words, with the registry's name, what a source does not have.
type absence struct {
	text  string
	cause *oci.Error
}

func (e absence) Error() string { return e.text }

// Unwrap returns the error as registries know it.
func (e absence) Unwrap() error { return e.cause }

// noRepository says that the source's registry has no such repository.
func (s *source) noRepository() error {
	return absence{fmt.Sprintf("%s has no repository %s", s.host(), s.repository), oci.ErrNameUnknown}
}

// noManifest says that the source has no such tag or digest, or not even the
// repository.
func (s *source) noManifest(ctx context.Context, reference string) error {
	if has, err := s.registry.HasRepository(ctx, s.repository); err == nil && !has {
		return s.noRepository()
	}
	return absence{fmt.Sprintf("%s/%s has no %s", s.host(), s.repository, reference), oci.ErrManifestUnknown}
}
