package server

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"ferry/internal/config"
	"ferry/internal/storage/blob"
	"ferry/internal/storage/blob/fs"
	"ferry/internal/storage/blob/s3"
)

const (
	// bucketTimeout is how long the object store may take to answer at the start.
	bucketTimeout = time.Minute
	// bucketTries is how often it is asked at the start. The pause doubles with each try.
	bucketTries, bucketPause = 6, 50 * time.Millisecond
)

// BucketOf returns the object store of cfg; nil if blobs are files. It makes no request.
func BucketOf(cfg config.Config) (*s3.Store, error) { return bucketOf(cfg, nil) }

// bucketOf is [BucketOf]. wrap, unless it is nil, wraps the transport of requests.
func bucketOf(cfg config.Config, wrap func(http.RoundTripper) http.RoundTripper) (*s3.Store, error) {
	if cfg.Blobs == "" {
		return nil, nil
	}
	at, err := s3.ParseLocation(cfg.Blobs)
	if err != nil {
		return nil, fmt.Errorf("blobs %w", err)
	}
	o := s3.Options{
		Location: at, Endpoint: cfg.BlobsEndpoint, Region: cfg.BlobsRegion, Addressing: cfg.BlobsAddressing,
		CredentialsFile: cfg.BlobsCredentialsFile, Encryption: cfg.BlobsEncryption, Wrap: wrap,
	}
	if cfg.BlobsCA != "" {
		if o.Roots, err = rootsWith(cfg.BlobsCA); err != nil {
			return nil, withHint(fmt.Errorf("read the CA of the object store: %w", err),
				"--blobs-ca wants a PEM file with the CA of --blobs-endpoint")
		}
	}
	return s3.New(o)
}

// rootsWith returns the authorities of this machine and those in a PEM file.
func rootsWith(path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: no PEM certificate is in it", path)
	}
	return roots, nil
}

// openBucket checks the object store of cfg, and records in the data directory to which instance
// it belongs. Without one it does nothing.
func (in *instance) openBucket(ctx context.Context, cfg config.Config) (err error) {
	var counted func(http.RoundTripper) http.RoundTripper
	if in.metrics != nil { // a copy of blobs serves no metrics
		counted = func(next http.RoundTripper) http.RoundTripper { return in.metrics.ObjectStore(s3.Operation, next) }
	}
	if in.bucket, err = bucketOf(cfg, counted); err != nil || in.bucket == nil {
		return err
	}
	var owner string
	var used bool
	err = askBucket(ctx, func(ctx context.Context) (err error) {
		if err := in.bucket.Check(ctx); err != nil {
			return err
		}
		owner, used, err = in.bucket.Owner(ctx)
		return err
	})
	if err != nil {
		return adviseBucket(err)
	}
	mark, err := in.bucket.Mark(ctx)
	if err != nil {
		return adviseBucket(err)
	}
	in.dir.useBucket(cfg.Blobs, owner, used, mark)
	return nil
}

// askBucket calls ask, again if the object store did not answer it whole.
func askBucket(ctx context.Context, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, bucketTimeout)
	defer cancel()
	for try, pause := 1, bucketPause; ; try, pause = try+1, 2*pause {
		err := ask(ctx)
		if !errors.Is(err, blob.ErrUnavailable) || try == bucketTries {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
	}
}

// openBlobs returns the blob store. The directories of files are created now.
func (in *instance) openBlobs(cfg config.Config, o Options) (blob.Store, error) {
	if o.SharedBlobs != nil {
		return o.SharedBlobs, nil
	}
	if in.bucket != nil {
		return in.bucket, nil
	}
	return fs.New(cfg.DataDir)
}

// claimBucket makes the prefix of the object store belong to this instance.
func (in *instance) claimBucket(ctx context.Context) error {
	if in.bucket == nil {
		return nil
	}
	claim := in.bucket.Claim
	if in.dir.adopt {
		claim = in.bucket.Adopt
	}
	return adviseBucket(askBucket(ctx, func(ctx context.Context) error { return claim(ctx, in.control.InstanceID()) }))
}

// adviseBucket adds a hint to an error of the object store at the start.
func adviseBucket(err error) error {
	hint := "check --blobs, --blobs-endpoint, --blobs-region and the credentials; the user must be allowed to list, " +
		"read, write and delete below the prefix, and to end multipart uploads"
	switch {
	case err == nil:
		return nil
	case errors.Is(err, s3.ErrConditions):
		hint = "use an object store with conditional writes, such as Amazon S3, MinIO or versitygw"
	case errors.As(err, new(*s3.NotOursError)):
		hint = "give each instance a prefix of its own: --blobs s3://BUCKET/PREFIX; or, if the database was " +
			"restored, ferry serve --adopt makes the prefix belong to it: blobs that the database does not know " +
			"are removed after a week"
	}
	return withHint(err, hint)
}
