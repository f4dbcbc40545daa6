// Package install writes the files that run a connected registry at a place: with Docker Compose,
// on an IoT Edge device, on a host with systemd, or in Kubernetes. It also says which commands
// come next. Begin with [Options] and with [Compose], [IoTEdge], [Systemd] and [Kubernetes].
package install

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"strings"

	"ferry/internal/oci"
	"ferry/internal/wire"
)

// Options describe one connected registry and its place. Zero values are the defaults of the
// place, except where a comment says that a place needs a value.
type Options struct {
	Connection  wire.ConnectionString
	Image       string   // of Ferry; Compose and IoT Edge need it
	HTTP        bool     // serve without TLS; the default is TLS with the instance's own authority
	Port        int      // for clients
	DataDir     string   // on the host
	Names       []string // host names and addresses in the certificate
	ExternalURL string   // address for clients behind a proxy
	ParentCA    string   // certificates of the parent's authority, in PEM; "" is one that everybody knows
	Program     string   // path of ferry; systemd needs it
	Dir         string   // the directory of the files, as the commands that come next name it

	Nested bool // IoT Edge: the device is below another one

	StorageClass string // Kubernetes
	StorageSize  string
	ClusterIP    string
	Namespace    string
	Chart        string // a directory, or oci://...
}

// A File is one of the files that a place needs.
type File struct {
	Name   string // below the output directory
	Text   string
	Secret bool // only its owner may read it
	User   int  // the owner, if this process may give files away; 0 is the user of this process
}

// A Plan is the files of a place, and the shell commands that come next. Lines of Next that
// begin with "#" are comments.
type Plan struct {
	Place string
	Files []File
	Next  []string
}

const (
	// imageUser is the user of the program in the image; see build/image.
	imageUser = 65532
	// imageData is the data directory in the image.
	imageData = "/var/lib/ferry"
	// imagePort is the port in the image.
	imagePort = 5000
	// connectionFile is the name of the file with the connection string.
	connectionFile = "connection-string"
	// caFile is the name of the file with the certificates of the parent's authority.
	caFile = "parent-ca.crt"
)

// connection returns the file with the connection string, for a user.
func (o Options) connection(user int) File {
	return File{Name: connectionFile, Text: o.Connection.Secret() + "\n", Secret: true, User: user}
}

// path returns the path of a file for the commands that come next.
func (o Options) path(name string) string { return quote(path.Join(o.Dir, name)) }

// enter returns the command that enters the directory of the files, if one is needed.
func (o Options) enter() []string {
	if path.Clean(o.Dir) == "." {
		return nil
	}
	return []string{"cd " + quote(o.Dir)}
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

// quote returns text, in quotes if a shell needs them.
func quote(text string) string {
	if plainWord.MatchString(text) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// ca returns the file with the certificates of the parent's authority, if it has one of its own.
func (o Options) ca() []File {
	if o.ParentCA == "" {
		return nil
	}
	return []File{{Name: caFile, Text: o.ParentCA}}
}

// settings returns the settings of `ferry serve` that every place has, by their names.
func (o Options) settings() []setting {
	var all []setting
	if !o.HTTP {
		all = append(all, setting{"tls", "own-ca"})
		if len(o.Names) > 0 {
			all = append(all, setting{"tls-names", strings.Join(o.Names, ",")})
		}
	}
	if o.ExternalURL != "" {
		all = append(all, setting{"external-url", o.ExternalURL})
	}
	return all
}

// A setting is one of `ferry serve`: the name of its flag without dashes, and a value.
type setting struct{ name, value string }

// variable returns the name of the environment variable of the setting.
func (s setting) variable() string {
	return "FERRY_" + strings.ToUpper(strings.ReplaceAll(s.name, "-", "_"))
}

// url returns the address of the instance for clients that reach it at a host.
func (o Options) url(host string, port int) string {
	scheme := "https"
	if o.HTTP {
		scheme = "http"
	}
	if o.ExternalURL != "" {
		return o.ExternalURL
	}
	if len(o.Names) > 0 {
		host = o.Names[0]
	}
	if a, err := netip.ParseAddr(host); err == nil && a.Is6() {
		host = "[" + host + "]"
	}
	if o.HTTP && port == 80 || !o.HTTP && port == 443 {
		return scheme + "://" + host
	}
	return fmt.Sprintf("%s://%s:%d", scheme, host, port)
}

var (
	hostName     = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)
	plainPath    = regexp.MustCompile(`^/[A-Za-z0-9._/-]*$`)
	quantity     = regexp.MustCompile(`^[1-9][0-9]*(\.[0-9]+)?([EPTGMk]|[EPTGMK]i)?$`)
	resourceName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)
)

// check returns an error if a value could not be written into a file, or would not work there.
func (o Options) check() error {
	if o.Image != "" {
		name := o.Image
		if o.Nested {
			name = strings.Replace(name, upstream, "localhost", 1)
		}
		if _, err := oci.ParseReference(name); err != nil {
			return fmt.Errorf("image %.80q: %w", o.Image, err)
		}
	}
	if o.Port < 0 || o.Port > 65535 {
		return fmt.Errorf("port %d: want 1 to 65535", o.Port)
	}
	if d := o.DataDir; d != "" && (!plainPath.MatchString(d) || path.Clean(d) != d || d == "/") {
		return fmt.Errorf("data directory %.80q: want an absolute path of letters, digits, '.', '_' and '-'", d)
	}
	for _, name := range o.Names {
		if _, err := netip.ParseAddr(name); err != nil && !hostName.MatchString(name) {
			return fmt.Errorf("name %.80q: want a host name or an address, without a port", name)
		}
	}
	pem := []byte(o.ParentCA)
	if o.ParentCA != "" && (!x509.NewCertPool().AppendCertsFromPEM(pem) || bytes.Contains(pem, []byte("PRIVATE KEY"))) {
		return errors.New("the parent's authority: want certificates in PEM, and no key")
	}
	if o.ExternalURL != "" {
		u, err := url.Parse(o.ExternalURL)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil ||
			u.RawQuery != "" || strings.ContainsAny(o.ExternalURL, "$'\"\\ ") {
			return fmt.Errorf("external URL %.80q: want http(s)://HOST[:PORT][/PATH]",
				o.ExternalURL[strings.LastIndex(o.ExternalURL, "@")+1:]) // without a password
		}
	}
	if o.StorageClass != "" && !resourceName.MatchString(o.StorageClass) {
		return fmt.Errorf("storage class %.80q: want lower-case letters, digits, '-' and '.'", o.StorageClass)
	}
	if o.StorageSize != "" && !quantity.MatchString(o.StorageSize) {
		return fmt.Errorf("storage size %.80q: want a quantity, such as 20Gi", o.StorageSize)
	}
	if o.ClusterIP != "" {
		if a, err := netip.ParseAddr(o.ClusterIP); err != nil || a.Zone() != "" {
			return fmt.Errorf("cluster IP %.80q: want an address", o.ClusterIP)
		}
	}
	if strings.HasPrefix(o.Chart, "-") {
		return fmt.Errorf("chart %.80q: want a directory, or oci://HOST/PATH", o.Chart)
	}
	if o.Namespace != "" && (!resourceName.MatchString(o.Namespace) || strings.Contains(o.Namespace, ".")) {
		return fmt.Errorf("namespace %.80q: want lower-case letters, digits and '-'", o.Namespace)
	}
	return nil
}

// errNoImage is the error for a place that needs an image.
var errNoImage = errors.New("an image of Ferry is needed")

// places are the functions that plan a place, by its name.
var places = map[string]func(Options) (Plan, error){
	"compose": Compose, "iotedge": IoTEdge, "systemd": Systemd, "k8s": Kubernetes,
}

// For plans a place, by its name. It returns an error for a value that would not work there.
func For(place string, o Options) (Plan, error) {
	if err := o.check(); err != nil {
		return Plan{}, err
	}
	p, err := places[place](o)
	p.Place = place
	return p, err
}
