package server

import (
	"context"
	"crypto/rand"
	"fmt"
	"path/filepath"

	"ferry/internal/config"
	"ferry/internal/metadb"
	"ferry/internal/storage/blob"
)

// The mark of a blob store tells whether it is the one that has the blobs of the database. A store that
// has only some of them must not be served: it has manifests whose layers are 404.

// unfinished is the mark of a store while blobs are copied to it. No database has it.
const unfinished = "unfinished"

// inFiles is the location of blobs in the data directory, as people write it.
const inFiles = "files"

// locationOf returns the location of the blobs of cfg.
func locationOf(cfg config.Config) string {
	if cfg.Blobs == "" {
		return inFiles
	}
	return cfg.Blobs
}

// location returns the location of the blobs.
func (d *dataDir) location() string {
	if d.bucket == "" {
		return inFiles
	}
	return d.bucket
}

// hasOtherBlobs reports whether the database has blobs that are in another store than this one. A
// database of an earlier version does not say where they are.
func (d *dataDir) hasOtherBlobs(db metadb.Identity) bool {
	isOurs := db.Instance == d.instance || d.bucket != "" && db.Instance == d.owner
	known := db.Store.Mark != "" && db.Store.Mark != d.mark || d.mark == unfinished
	isUnmounted := d.bucket == "" && d.lacksBlobDirs && db.Store.Location == inFiles
	return db.Instance != "" && db.Blobs && isOurs && known && !isUnmounted && !d.withoutBlobs
}

// refuseStore returns the error for a database whose blobs are in another store.
func (d *dataDir) refuseStore(store metadb.BlobStore) error {
	here, there := d.place(d.location()), d.place(store.Location)
	found := fmt.Sprintf("the blobs of this instance are in %s, and not in %s", there, here)
	before := "with --blobs " + store.Location
	if store.Location == inFiles {
		before = "without --blobs"
	}
	todo := fmt.Sprintf("start it %s, or move the blobs: %s", before, copyCommand(d.location()))
	switch {
	case d.mark == unfinished:
		found = fmt.Sprintf("a copy of the blobs of this instance to %s is not finished", here)
		if store.Mark == "" {
			todo = "start it with the --blobs of before, or finish the copy: " + copyCommand(d.location())
		}
	case store.Location == d.location():
		found = fmt.Sprintf("the blobs in %s are not those of this instance", here)
		todo = "mount or restore the right ones"
	}
	return withHint(fmt.Errorf("%s: the instance does not start, and nothing was changed", found),
		fmt.Sprintf("%s; ferry serve --adopt serves what is in %s, and the other blobs have to be pushed or synced "+
			"again", todo, here))
}

// copyCommand returns the command that moves the blobs of an instance to a location.
func copyCommand(to string) string { return "ferry blobs copy --to " + to + ", and again with --final" }

// place returns a location for people.
func (d *dataDir) place(location string) string {
	if location == inFiles {
		return filepath.Join(d.path, "blobs")
	}
	return location
}

// recordStore records in the database which store has its blobs. A disk without room for that does not
// keep the instance from serving.
func (in *instance) recordStore(ctx context.Context, store blob.Store, location string) error {
	marked, ok := store.(blob.Marked)
	if !ok {
		return nil
	}
	err := recordStore(ctx, in.db, marked, location)
	if err != nil && ctx.Err() == nil {
		in.log.Warn("where the blobs are is not recorded", "err", err)
		return nil
	}
	return err
}

func recordStore(ctx context.Context, db *metadb.DB, store blob.Marked, location string) error {
	mark, err := store.KeepMark(ctx, rand.Text())
	if err == nil && mark == unfinished { // the database has no blobs, or is adopted
		mark = rand.Text()
		err = store.SetMark(ctx, mark)
	}
	if err != nil {
		return err
	}
	now := metadb.BlobStore{Mark: mark, Location: location}
	old, err := metadb.Read(ctx, db, (*metadb.Tx).BlobStore)
	if err != nil || old == now {
		return err
	}
	return db.UpdateWithReserve(ctx, func(tx *metadb.Tx) error { return tx.SetBlobStore(now) })
}
