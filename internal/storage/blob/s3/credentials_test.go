package s3

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
)

// An asked server answers 404, and remembers the key with which the last request was signed.
type asked struct {
	*httptest.Server
	key atomic.Value
}

func newAsked(t *testing.T, start func(http.Handler) *httptest.Server) *asked {
	t.Helper()
	a := &asked{}
	form := regexp.MustCompile(`Credential=([^/]*)/`)
	a.Server = start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if m := form.FindStringSubmatch(r.Header.Get("Authorization")); m != nil {
			a.key.Store(m[1])
		}
		w.WriteHeader(http.StatusNotFound)
	}))
	t.Cleanup(a.Close)
	return a
}

// wantKey makes a request, and fails unless it is signed with a key.
func (a *asked) wantKey(t *testing.T, s *Store, key string) {
	t.Helper()
	_ = s.Reachable(t.Context()) // the object does not exist
	if got := a.key.Load(); got != key {
		t.Errorf("the request is signed with %v, want %s", got, key)
	}
}

func (a *asked) store(t *testing.T, o Options) *Store {
	t.Helper()
	o.Location, o.Endpoint, o.Region = Location{Bucket: "tests"}, a.URL, "us-east-1"
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// without hides the credentials of the machine from a test.
func without(t *testing.T) {
	t.Helper()
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE",
		"AWS_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
		"AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", t.TempDir())
}

// writeKey writes a file with a key in Amazon's form.
func writeKey(t *testing.T, path, key string) {
	t.Helper()
	text := "[default]\naws_access_key_id = " + key + "\naws_secret_access_key = secret-of-" + key + "\n"
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestCredentialsComeFromTheFirstSourceThatHasSome(t *testing.T) {
	without(t)
	a := newAsked(t, httptest.NewServer)
	role := newRole(t)
	toRole := func(next http.RoundTripper) http.RoundTripper { return &divert{next, role.URL} }
	a.wantKey(t, a.store(t, Options{Wrap: toRole}), "role1")
	writeKey(t, filepath.Join(os.Getenv("HOME"), ".aws", "credentials"), "usual")
	a.wantKey(t, a.store(t, Options{Wrap: toRole}), "usual")
	t.Setenv("AWS_ACCESS_KEY_ID", "environment")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "x")
	a.wantKey(t, a.store(t, Options{Wrap: toRole}), "environment")
	path := filepath.Join(t.TempDir(), "credentials")
	writeKey(t, path, "named")
	a.wantKey(t, a.store(t, Options{Wrap: toRole, CredentialsFile: path}), "named")
}

func TestRequestsWithoutCredentialsAreNotMade(t *testing.T) {
	without(t)
	a := newAsked(t, httptest.NewServer)
	missing := filepath.Join(t.TempDir(), "credentials")
	err := a.store(t, Options{CredentialsFile: missing}).Reachable(t.Context())
	if err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("without a file: %v", err)
	}
	if err := os.WriteFile(missing, []byte("[default]\naws_access_key_id = key\nsecret-line\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err = a.store(t, Options{CredentialsFile: missing}).Reachable(t.Context())
	if err == nil || strings.Contains(err.Error(), "secret-line") {
		t.Errorf("with a malformed file: %v", err)
	}
}

func TestChangedCredentialsFileIsReadAgain(t *testing.T) {
	without(t)
	a := newAsked(t, httptest.NewServer)
	path := filepath.Join(t.TempDir(), "credentials")
	writeKey(t, path, "first")
	s := a.store(t, Options{CredentialsFile: path})
	a.wantKey(t, s, "first")
	next := path + ".next" // as Kubernetes and careful people replace a file
	writeKey(t, next, "other")
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
	a.wantKey(t, s, "other")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	a.wantKey(t, s, "other")
	writeKey(t, path, "third")
	a.wantKey(t, s, "third")
}

// A clock is the time of a test.
type clock struct{ now time.Time }

func (c *clock) key(t *testing.T, of *credentials.Credentials) string {
	t.Helper()
	value, err := of.GetWithContext(nil)
	if err != nil {
		t.Fatal(err)
	}
	return value.AccessKeyID
}

func TestMalformedChangeOfTheFileKeepsTheOldCredentials(t *testing.T) {
	c := &clock{time.Now()}
	path := filepath.Join(t.TempDir(), "credentials")
	writeKey(t, path, "first")
	now := func() time.Time { return c.now }
	of := credentials.New(&login{sources: []credentials.Provider{newFile(path)}, now: now})
	for _, step := range []struct {
		text, want string
		passes     time.Duration
	}{
		{"", "first", 0},
		{"[default]\naws_access_key_id = second\n", "first", 0},
		{"[default]\naws_access_key_id = second\naws_secret_access_key = x\n", "first", renewalPause - 1},
		{"[default]\naws_access_key_id = second\naws_secret_access_key = x\n", "second", 1},
	} {
		if step.text != "" {
			if err := os.WriteFile(path, []byte(step.text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if c.now = c.now.Add(step.passes); c.key(t, of) != step.want {
			t.Errorf("with %q the key is %s, want %s", step.text, c.key(t, of), step.want)
		}
	}
}

// A role is a service of a machine that gives it credentials, by Amazon's second protocol.
type role struct {
	*httptest.Server
	given   atomic.Int64
	isDown  atomic.Bool
	expires atomic.Value // a time
}

func newRole(t *testing.T) *role {
	t.Helper()
	r := &role{}
	r.expires.Store(time.Now().Add(time.Hour))
	mux := http.NewServeMux()
	mux.HandleFunc("PUT "+credentials.TokenPath, func(w http.ResponseWriter, q *http.Request) {
		if q.Header.Get(credentials.TokenRequestTTLHeader) == "" {
			w.WriteHeader(http.StatusBadRequest)
		}
		_, _ = w.Write([]byte("session"))
	})
	mux.HandleFunc("GET "+credentials.DefaultIAMSecurityCredsPath, func(w http.ResponseWriter, q *http.Request) {
		switch name := strings.TrimPrefix(q.URL.Path, credentials.DefaultIAMSecurityCredsPath); {
		case q.Header.Get(credentials.TokenRequestHeader) != "session":
			w.WriteHeader(http.StatusUnauthorized)
		case r.isDown.Load():
			w.WriteHeader(http.StatusServiceUnavailable)
		case name == "":
			_, _ = w.Write([]byte("registry\n"))
		default:
			_ = json.NewEncoder(w).Encode(map[string]any{
				"Code": "Success", "AccessKeyId": "role" + string('0'+rune(r.given.Add(1))), "SecretAccessKey": "x",
				"Token": "t", "Expiration": r.expires.Load(),
			})
		}
	})
	r.Server = httptest.NewServer(mux)
	t.Cleanup(r.Close)
	return r
}

// A divert sends requests for the address of a machine's service elsewhere.
type divert struct {
	http.RoundTripper
	to string
}

// RoundTrip implements [http.RoundTripper].
func (d *divert) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme+"://"+r.URL.Host == credentials.DefaultIAMRoleEndpoint {
		r = r.Clone(r.Context())
		r.URL.Host = strings.TrimPrefix(d.to, "http://")
	}
	return d.RoundTripper.RoundTrip(r)
}

func TestRoleIsRenewedBeforeItsCredentialsEnd(t *testing.T) {
	without(t)
	service := newRole(t)
	c := &clock{time.Now()}
	now := func() time.Time { return c.now }
	of := credentials.New(&login{now: now, sources: []credentials.Provider{
		&credentials.IAM{Endpoint: service.URL, Expiry: credentials.Expiry{CurrentTime: now}},
	}})
	want := func(key string, after time.Duration) {
		t.Helper()
		if c.now = c.now.Add(after); c.key(t, of) != key {
			t.Errorf("after %v more the key is %s, want %s", after, c.key(t, of), key)
		}
	}
	want("role1", 0)
	want("role1", 47*time.Minute)
	service.expires.Store(c.now.Add(time.Hour))
	want("role2", 2*time.Minute)
	service.isDown.Store(true)
	want("role2", 50*time.Minute) // they are valid for some minutes more
	service.isDown.Store(false)
	want("role2", renewalPause/2)
	want("role3", renewalPause)
}

func TestEndpointIsCheckedWithTheGivenRoots(t *testing.T) {
	path := filepath.Join(t.TempDir(), "credentials")
	writeKey(t, path, "first")
	a := newAsked(t, httptest.NewTLSServer)
	err := a.store(t, Options{CredentialsFile: path}).Reachable(t.Context())
	if err == nil || !strings.Contains(err.Error(), "certificate") || a.key.Load() != nil {
		t.Errorf("with an unknown authority: %v, key %v", err, a.key.Load())
	}
	roots := a.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	a.wantKey(t, a.store(t, Options{CredentialsFile: path, Roots: roots}), "first")
}
