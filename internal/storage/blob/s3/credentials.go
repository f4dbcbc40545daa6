package s3

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
)

// credentials returns the credentials that o names. They are renewed, and a file is read again, without
// a restart.
func (o Options) credentials() *credentials.Credentials {
	l := &login{sources: []credentials.Provider{&credentials.EnvAWS{}, newFile(""), &credentials.IAM{}}, now: time.Now}
	if o.CredentialsFile != "" {
		l.sources = []credentials.Provider{newFile(o.CredentialsFile)}
	}
	return credentials.New(l)
}

// renewalPause is how long a login is used after it could not be renewed, before the next try.
const renewalPause = 10 * time.Second

// A login has the credentials of the first of its sources that has some. If they cannot be renewed, it
// keeps them: a role is renewed long before its credentials end. The client calls it under a lock.
type login struct {
	sources []credentials.Provider
	now     func() time.Time

	source credentials.Provider // of value; nil is none yet
	value  credentials.Value
	retry  time.Time // no source is asked before that
}

var _ credentials.Provider = (*login)(nil)

// RetrieveWithCredContext implements [credentials.Provider].
func (l *login) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	var all []error
	for _, source := range l.sources {
		value, err := source.RetrieveWithCredContext(cc)
		if err == nil && (value.AccessKeyID == "" || value.SecretAccessKey == "") {
			err = errors.New("no key is in it")
		}
		if err == nil {
			l.source, l.value = source, value
			return value, nil
		}
		all = append(all, err)
	}
	if l.source != nil {
		l.retry = l.now().Add(renewalPause)
		return l.value, nil
	}
	return credentials.Value{}, fmt.Errorf("find credentials: %w", errors.Join(all...))
}

// Retrieve implements [credentials.Provider].
func (l *login) Retrieve() (credentials.Value, error) { return l.RetrieveWithCredContext(nil) }

// IsExpired implements [credentials.Provider].
func (l *login) IsExpired() bool {
	return l.source == nil || !l.now().Before(l.retry) && l.source.IsExpired()
}

// A file has credentials in Amazon's form. It is read again when it has changed.
type file struct {
	*credentials.FileAWSCredentials
	path    string
	read    fs.FileInfo // when it was read last; nil is never
	expires bool        // what was read has an end, as that of a program that the file names
}

// newFile returns the file at path; "" is the usual place.
func newFile(path string) *file {
	f := &file{FileAWSCredentials: &credentials.FileAWSCredentials{Filename: path}, path: path}
	if path == "" {
		f.path = os.Getenv("AWS_SHARED_CREDENTIALS_FILE")
	}
	if home, err := os.UserHomeDir(); f.path == "" && err == nil {
		f.path = filepath.Join(home, ".aws", "credentials")
	}
	return f
}

// RetrieveWithCredContext implements [credentials.Provider]. Its error has nothing of the file's content.
func (f *file) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	info, err := os.Stat(f.path) // before the file is read, so that no change is missed
	if err != nil && f.Filename != "" {
		return credentials.Value{}, err
	}
	value, err := f.FileAWSCredentials.RetrieveWithCredContext(cc)
	if err != nil {
		return credentials.Value{}, fmt.Errorf("%s cannot be read, or is malformed", f.path)
	}
	f.read, f.expires = info, !value.Expiration.IsZero()
	return value, nil
}

// IsExpired implements [credentials.Provider].
func (f *file) IsExpired() bool {
	if f.expires && f.FileAWSCredentials.IsExpired() {
		return true
	}
	info, err := os.Stat(f.path)
	if err != nil {
		return false // what was read may still be valid
	}
	return f.read == nil || !os.SameFile(info, f.read) || !info.ModTime().Equal(f.read.ModTime()) ||
		info.Size() != f.read.Size()
}
