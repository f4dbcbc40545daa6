package server

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"

	"ferry/internal/atomicfile"
	"ferry/internal/auth"
	"ferry/internal/control"
	"ferry/internal/metadb"
	"ferry/internal/storage"
	blobfs "ferry/internal/storage/blob/fs"
)

// The files in the data directory with the id of its instance. The database has the same
// id. During the first start, until the database has it, the id is in startingFile, so that
// a crash does not leave a data directory that seems to have lost its database.
const (
	instanceFile = "instance-id"
	startingFile = "instance-id.new"
)

// A dataDir is an instance's data directory, locked by this process. [dataDir.match]
// protects it from a database of another instance.
type dataDir struct {
	path              string
	log               *slog.Logger
	adopt             bool // accept any database
	unlock            func() error
	instance          string // the id in it; "" is none
	firstStartPending bool   // the instance's first start has not ended
	hasContent        bool   // it has content
	lacksBlobDirs     bool   // it has not even the directories that blobs are in
	isFirstStart      bool   // this is the instance's first start
	bucket            string // where blobs are, if they are not in the directory
	owner             string // the instance that the bucket belongs to; "" is none
	mark              string // of the blob store; "" is none
	withoutBlobs      bool   // this process does not use the blobs
}

// openDataDir creates the data directory if necessary, locks it, and reads its instance id.
func openDataDir(path string, adopt bool, log *slog.Logger) (d *dataDir, err error) {
	d = &dataDir{path: path, log: log, adopt: adopt}
	if d.unlock, err = storage.LockDir(path); err != nil {
		return nil, err
	}
	if err = d.protect(); err == nil {
		err = d.load()
	}
	if err == nil && d.instance == "" {
		if found, _ := hasFiles(path, "registry"); found {
			log.Info("the data directory has a directory that Ferry does not use; if it is the reference's, it can be "+
				"deleted once this registry is in sync", "path", filepath.Join(path, "registry"))
		}
	}
	if err != nil {
		d.unlock()
		return nil, fmt.Errorf("open data directory: %w", err)
	}
	return d, nil
}

// viewDataDir reads a data directory that an instance may use.
func viewDataDir(path string, log *slog.Logger) (*dataDir, error) {
	d := &dataDir{path: path, log: log, unlock: func() error { return nil }}
	if err := d.load(); err != nil {
		return nil, fmt.Errorf("open data directory: %w", err)
	}
	return d, nil
}

// load reads what is in the directory.
func (d *dataDir) load() (err error) {
	if d.instance, err = d.read(instanceFile); err != nil {
		return err
	}
	if d.instance == "" {
		if d.instance, err = d.read(startingFile); err != nil {
			return err
		}
		d.firstStartPending = d.instance != ""
		d.isFirstStart = d.firstStartPending
	}
	if d.hasContent, err = hasFiles(d.path, "blobs/sha256", "blobs/sha512", "partial"); err != nil {
		return err
	}
	found, err := hasDirs(d.path, "blobs/sha256", "blobs/sha512")
	if err != nil {
		return err
	}
	d.lacksBlobDirs = !found
	d.mark, err = blobfs.MarkOf(d.path)
	return err
}

// othersPermissions are the mode bits for all users but a file's owner.
const othersPermissions = 0o077

// protect removes all permissions but the owner's from the directory. It cannot do that if
// another user owns the directory, such as that of a volume. Then it returns an error if
// others may write to it, except a group of this process.
func (d *dataDir) protect() error {
	info, err := os.Stat(d.path)
	if err != nil || info.Mode().Perm()&othersPermissions == 0 {
		return err
	}
	if err := os.Chmod(d.path, info.Mode()&^othersPermissions); err == nil {
		d.log.Warn("others could enter the data directory; it is closed to them now",
			"dataDir", d.path, "mode", info.Mode().String())
		return nil
	}
	ours := false
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		groups, _ := os.Getgroups() // on an error, no group counts as ours
		ours = int(s.Gid) == os.Getegid() || slices.Contains(groups, int(s.Gid))
	}
	mode := info.Mode().Perm()
	if mode&0o002 != 0 || mode&0o020 != 0 && !ours {
		return withHint(fmt.Errorf("others may write to %s (%s), which belongs to another user", d.path, info.Mode()),
			fmt.Sprintf("make this user its owner and remove the write permission of others, or pass --data-dir %s, a "+
				"directory in it",
				filepath.Join(d.path, "ferry")))
	}
	d.log.Warn("the data directory belongs to another user, and others may enter it; "+
		"only the files in it are closed to them", "dataDir", d.path, "mode", info.Mode().String())
	return nil
}

// read returns the id in a file; "" if there is none.
func (d *dataDir) read(name string) (string, error) {
	text, err := os.ReadFile(filepath.Join(d.path, name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(text)), err
}

// hasFiles reports whether one of the directories below dir has any entry.
func hasFiles(dir string, below ...string) (bool, error) {
	for _, name := range below {
		f, err := os.Open(filepath.Join(dir, filepath.FromSlash(name)))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return false, err
		}
		_, err = f.Readdirnames(1)
		f.Close()
		if !errors.Is(err, io.EOF) {
			return err == nil, err
		}
	}
	return false, nil
}

// hasDirs reports whether one of the directories below dir exists.
func hasDirs(dir string, below ...string) (bool, error) {
	for _, name := range below {
		_, err := os.Stat(filepath.Join(dir, filepath.FromSlash(name)))
		if !errors.Is(err, fs.ErrNotExist) {
			return err == nil, err
		}
	}
	return false, nil
}

// match returns nil if the database belongs to the data directory, or if both are empty. Any
// other pair is an error, because the instance would serve none of its content, and delete
// the blobs that the database does not know.
func (d *dataDir) match(db metadb.Identity) error {
	const other = "or give the --data-dir and the --database that belong together"
	const unknownFiles = "files that the database does not know are removed after a week"
	switch {
	case d.adopt:
		return nil
	case d.bucket != "" && db.Instance != d.owner && db.Instance+d.owner != "" && (d.owner != "" || db.Blobs):
		return d.refuseBucket(db.Instance)
	case d.hasOtherBlobs(db):
		return d.refuseStore(db.Store)
	case d.bucket != "" && db.Instance != "" && d.owner == db.Instance && d.instance == "":
		return nil // another machine of the instance
	case db.Instance == "" && db.Used:
		return fmt.Errorf("the database was in use, and has no instance-id: %w", control.ErrDamaged)
	case db.Instance != "" && db.Instance == d.instance && db.Blobs && d.lacksBlobDirs && !d.withoutBlobs:
		return d.refuse(fmt.Sprintf("the database knows blobs, and there is nothing in %s",
			filepath.Join(d.path, "blobs")),
			"mount its volume, or restore it", "goes on without the blobs, which have to be pushed or synced again")
	case db.Instance != "" && db.Instance == d.instance:
		return nil
	case db.Instance != "" && d.instance != "":
		return d.refuse(fmt.Sprintf("the database belongs to instance %s, and the data directory %s to instance %s",
			db.Instance, d.path, d.instance),
			"restore the one that is wrong, "+other, "makes this directory belong to this database: "+unknownFiles)
	case db.Instance != "" && !d.hasContent:
		return d.refuse(fmt.Sprintf("the database belongs to instance %s, and the data directory %s is empty",
			db.Instance, d.path),
			"mount its volume, "+other, "goes on without the blobs, which have to be pushed or synced again")
	case db.Instance != "":
		return d.refuse(
			fmt.Sprintf("the database belongs to instance %s, and the data directory %s has content, but no %s",
				db.Instance, d.path, instanceFile),
			"restore that file, "+other, "makes this directory belong to this database: "+unknownFiles)
	case d.instance != "" && !d.firstStartPending:
		return d.refuse(fmt.Sprintf("the database is empty, and the data directory %s belongs to instance %s",
			d.path, d.instance),
			"restore the instance's database, "+other,
			"begins with the empty database, without repositories, tokens and "+
				"connected registries: "+unknownFiles)
	case d.hasContent:
		return d.refuse(fmt.Sprintf("the database is empty, and the data directory %s has content", d.path),
			"restore the instance's database, "+other, "begins with the empty database: "+unknownFiles)
	}
	return d.begin()
}

// useBucket says that blobs are in a bucket, which belongs to an instance, whether it has any, and the
// mark of the store.
func (d *dataDir) useBucket(location, owner string, used bool, mark string) {
	d.bucket, d.owner, d.mark = location, owner, mark
	d.hasContent, d.lacksBlobDirs = used, !used
}

// refuseBucket returns the error for a bucket that does not belong to the database's instance.
func (d *dataDir) refuseBucket(instance string) error {
	belongs := func(thing, to string) string {
		if to == "" {
			return thing + " belongs to no instance"
		}
		return thing + " belongs to instance " + to
	}
	todo := "give the --blobs and the --database that belong together"
	if d.owner == "" && instance == d.instance {
		todo += ", or move the blobs there: " + copyCommand(d.bucket)
	}
	return d.refuse(belongs("the database", instance)+", and "+belongs(d.bucket, d.owner), todo,
		"makes "+d.bucket+" belong to this database: objects that the database does not know are removed after a week")
}

// refuse returns an error for a pair that does not match. The hint says how to solve that,
// and what --adopt does.
func (d *dataDir) refuse(found, todo, adopting string) error {
	err := fmt.Errorf("%s: they do not belong together, so the instance does not start, and nothing was changed", found)
	return withHint(err, fmt.Sprintf("%s; ferry serve --adopt %s", todo, adopting))
}

// begin records the start of a new instance in this directory.
func (d *dataDir) begin() error {
	if d.firstStartPending {
		return nil
	}
	id := uuid.NewString()
	if err := atomicfile.Write(filepath.Join(d.path, startingFile), []byte(id+"\n")); err != nil {
		return fmt.Errorf("begin data directory: %w", err)
	}
	d.instance, d.firstStartPending, d.isFirstStart = id, true, true
	return nil
}

// firstID returns the id for a new instance; "" if this is not the first start.
func (d *dataDir) firstID() string {
	if d.firstStartPending {
		return d.instance
	}
	return ""
}

// claim records that the data directory belongs to the instance of the database.
func (d *dataDir) claim(instance string) error {
	if d.instance == instance && !d.firstStartPending {
		return nil
	}
	if d.adopt && !d.firstStartPending {
		d.log.Warn("data directory is adopted", "dataDir", d.path, "instance", instance, "was", d.instance)
	}
	if err := atomicfile.Write(filepath.Join(d.path, instanceFile), []byte(instance+"\n")); err != nil {
		return fmt.Errorf("claim data directory: %w", err)
	}
	if err := os.Remove(filepath.Join(d.path, startingFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("claim data directory: %w", err)
	}
	d.instance, d.firstStartPending = instance, false
	return nil
}

// warnMissingKey logs that the file of a key is missing, unless this is the first start.
func (d *dataDir) warnMissingKey(name, todo string) {
	path := filepath.Join(d.path, name)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && !d.isFirstStart {
		d.log.Warn("a key is missing, and a new one is made", "path", path, "todo", todo)
	}
}

// keyFile has the key that signs JWTs. It is not in the database, so that a copy of the
// database is not enough to become an administrator.
const keyFile = "signing.key"

// signer returns the signer with the data directory's key. It replaces a key that is
// missing, or that others could read. Clients then fetch new tokens by themselves.
func (d *dataDir) signer() (*auth.Signer, error) {
	d.warnMissingKey(keyFile, "nothing has to be done: clients fetch new tokens by themselves")
	path := filepath.Join(d.path, keyFile)
	key, err := os.ReadFile(path)
	if err == nil {
		var info os.FileInfo
		if info, err = os.Stat(path); err == nil && info.Mode().Perm()&othersPermissions != 0 {
			d.log.Warn("others could read the signing key; it is replaced now", "path", path, "mode",
				info.Mode().String())
			err = fs.ErrNotExist
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		key = []byte(auth.NewSigningKey() + "\n")
		err = atomicfile.Write(path, key)
	}
	if err != nil {
		return nil, fmt.Errorf("open signing key: %w", err)
	}
	s, err := auth.NewSigner(strings.TrimSpace(string(key)), time.Now)
	if err != nil {
		return nil, withHint(fmt.Errorf("open signing key %s: %w", path, err), "delete that file; a new key is made")
	}
	return s, nil
}
