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

// isMisconfigured reports whether the protocol, the certificates or the login that the
// operator chose cannot work.
func isMisconfigured(err error) bool {
	return speaksNoTLS(err) ||
		errors.As(err, new(*tls.CertificateVerificationError)) || errors.As(err, new(*remote.LoginError))
}

func speaksNoTLS(err error) bool {
	return errors.Is(err, http.ErrSchemeMismatch) || errors.As(err, new(tls.RecordHeaderError))
}

// isItemError reports whether err may concern only the requested item, and not the whole
// source: the source answered, did not refuse the login, and did not ask for a pause.
func isItemError(err error) bool {
	switch retry.Status(err) {
	case 0:
		return errors.As(err, new(*outbound.RefusedError))
	case http.StatusUnauthorized, http.StatusRequestTimeout, http.StatusTooManyRequests:
		return false
	}
	return retry.After(err) == 0
}

// An unreachableError says that a source did not answer several requests in a row. It may
// answer later.
type unreachableError struct{ error }

// Unwrap returns the last error.
func (e unreachableError) Unwrap() error { return e.error }

// hint returns advice on how to solve err; it may be "".
func hint(err error) string {
	switch {
	case errors.Is(err, ErrExists):
		return "--force moves it"
	case errors.As(err, &unreachableError{}):
		return "run the same import again: it resumes from the same byte"
	case speaksNoTLS(err):
		return "the source does not use TLS: put http:// before it"
	case errors.As(err, new(x509.UnknownAuthorityError)):
		return "trust the authority that issued its certificate: --ca-file FILE"
	case errors.As(err, new(*remote.LoginError)):
		return "install that helper where the registry runs, or give --username and --password-stdin"
	}
	if e := oci.AsError(err); e != nil && (e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden) {
		return "give --username and --password-stdin, or docker login as the user that the registry runs as; " +
			"many registries also answer so if the repository does not exist"
	}
	return ""
}

// describe returns the reason why a source sends nothing, with the end of the pause that
// it asked for, if it did; "" if err is nil. The text is shown beside a progress bar, so
// it omits the name of the request.
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
		text = "the source asks for a pause until " + until.UTC().Format("15:04:05 UTC") + ": " + text
	}
	return text
}

// An absentError says, with the registry's name, which repository or image a source does
// not have.
type absentError struct {
	text  string
	cause *oci.Error
}

func (e absentError) Error() string { return e.text }

// Unwrap returns the error of the specification.
func (e absentError) Unwrap() error { return e.cause }

// noRepository returns the error that the registry does not have the source's repository.
func (s *source) noRepository() error {
	return absentError{fmt.Sprintf("%s has no repository %s", s.host(), s.repository), oci.ErrNameUnknown}
}

// noManifest returns the error that the source does not have the tag or digest, or not
// even the repository.
func (s *source) noManifest(ctx context.Context, reference string) error {
	if has, err := s.registry.HasRepository(ctx, s.repository); err == nil && !has {
		return s.noRepository()
	}
	return absentError{fmt.Sprintf("%s/%s has no %s", s.host(), s.repository, reference), oci.ErrManifestUnknown}
}
