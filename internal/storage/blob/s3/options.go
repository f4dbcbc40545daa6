package s3

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/encrypt"
)

// Options say where a store is and how it is reached. Location is required.
type Options struct {
	Location Location
	Endpoint string // URL of the object store; "" is Amazon's
	Region   string // "" is the one that the store names
	// Addressing is how the bucket is named in a URL: AddressByPath, AddressByHost, or "" for what
	// the endpoint usually wants.
	Addressing string
	// CredentialsFile has credentials in Amazon's form, and is read again when it has changed. ""
	// means those of the environment, of the file in the usual place, or of the role of the machine,
	// whichever there is.
	CredentialsFile string
	// Encryption is what the store is asked for: "" for its default, EncryptS3, EncryptKMS, or
	// EncryptKMS, a colon and the id of a key.
	Encryption string
	// Roots are the authorities that the endpoint's certificate is checked with; nil is those of
	// the machine.
	Roots *x509.CertPool
	// Wrap, unless it is nil, wraps the transport of all requests to the store, retries included.
	Wrap func(http.RoundTripper) http.RoundTripper
}

// The values of [Options.Addressing] and [Options.Encryption].
const (
	AddressByPath = "path"
	AddressByHost = "host"
	EncryptS3     = "s3"
	EncryptKMS    = "kms"
)

// A Location is a bucket and a prefix in it.
type Location struct {
	Bucket string
	Prefix string // without slashes at its ends; "" is the whole bucket
}

var (
	bucketForm = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	prefixForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$`)
)

// ParseLocation parses s3://bucket or s3://bucket/prefix.
func ParseLocation(text string) (Location, error) {
	rest, ok := strings.CutPrefix(text, "s3://")
	bucket, prefix, _ := strings.Cut(rest, "/")
	prefix = strings.TrimSuffix(prefix, "/")
	if !ok || !bucketForm.MatchString(bucket) || strings.Contains(bucket, "..") || len(prefix) > 200 ||
		prefix != "" && !prefixForm.MatchString(prefix) {
		return Location{}, fmt.Errorf("%.80q: want s3://BUCKET or s3://BUCKET/PREFIX, with letters, digits, dots, "+
			"hyphens and slashes", text)
	}
	return Location{bucket, prefix}, nil
}

// String returns the location as a URL.
func (l Location) String() string { return strings.TrimSuffix("s3://"+l.Bucket+"/"+l.Prefix, "/") }

func (l Location) prefix() string {
	if l.Prefix == "" {
		return ""
	}
	return l.Prefix + "/"
}

// CheckEndpoint returns an error unless text is empty or the URL of a host.
func CheckEndpoint(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil ||
		strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("want http://HOST or https://HOST, perhaps with a port")
	}
	return nil
}

// CheckEncryption returns an error unless text is a value of [Options.Encryption].
func CheckEncryption(text string) error {
	kind, key, hasKey := strings.Cut(text, ":")
	if text == "" || text == EncryptS3 || kind == EncryptKMS && (!hasKey || key != "") {
		return nil
	}
	return fmt.Errorf("%.80q: want s3, kms or kms:KEY", text)
}

func (o Options) encryption() encrypt.ServerSide {
	kind, key, _ := strings.Cut(o.Encryption, ":")
	switch kind {
	case EncryptS3:
		return encrypt.NewSSE()
	case EncryptKMS:
		kms, _ := encrypt.NewSSEKMS(key, nil) // fails only with a context
		return kms
	}
	return nil
}

// tries is how often the client makes a request that fails, within 1 to 5 seconds.
const tries = 6

func (o Options) client() (*minio.Core, error) {
	if err := errors.Join(CheckEndpoint(o.Endpoint), CheckEncryption(o.Encryption)); err != nil {
		return nil, err
	}
	endpoint, secure := "s3.amazonaws.com", true
	if o.Endpoint != "" {
		u, err := url.Parse(o.Endpoint)
		if err != nil {
			return nil, err
		}
		endpoint, secure = u.Host, u.Scheme == "https"
	}
	lookup := minio.BucketLookupAuto
	switch o.Addressing {
	case AddressByPath:
		lookup = minio.BucketLookupPath
	case AddressByHost:
		lookup = minio.BucketLookupDNS
	}
	return minio.NewCore(endpoint, &minio.Options{
		Creds: o.credentials(), Secure: secure, Transport: o.transport(), Region: o.Region, BucketLookup: lookup,
		MaxRetries: tries,
	})
}

func (o Options) transport() http.RoundTripper {
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, TLSHandshakeTimeout: 10 * time.Second,
		ResponseHeaderTimeout: stallTimeout, ExpectContinueTimeout: time.Second,
		MaxIdleConns: 256, MaxIdleConnsPerHost: 64, IdleConnTimeout: 90 * time.Second,
		TLSClientConfig:    &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.Roots},
		DisableCompression: true,
		WriteBufferSize:    64 << 10, ReadBufferSize: 64 << 10,
	}
	if o.Wrap != nil {
		return o.Wrap(transport)
	}
	return transport
}
