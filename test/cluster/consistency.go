package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Differences compares the rows of the database with the objects of the store, and the manifests
// with the blobs that they refer to. It returns one line for each difference, such as a blob
// without an object. While nothing is written, there is none as soon as collections have deleted
// what nothing refers to.
func (c *Cluster) Differences(ctx context.Context) ([]string, error) {
	conn, err := pgx.Connect(ctx, c.Database.URL(c.database))
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, `
		SELECT 'blobs/' || replace(digest, ':', '/'), size FROM blobs
		UNION ALL SELECT 'partials/upload-' || id, -1 FROM uploads
		UNION ALL SELECT 'partials/transfer-' || replace(digest, ':', '-'), -1 FROM transfers`)
	if err != nil {
		return nil, err
	}
	owned := map[string]int64{} // the sizes of blobs; -1 of partials, which may have no object yet
	var key string
	var size int64
	if _, err := pgx.ForEachRow(rows, []any{&key, &size}, func() error {
		owned[key] = size
		return nil
	}); err != nil {
		return nil, err
	}
	objects, err := c.Store.Sizes(ctx, c.prefix)
	if err != nil {
		return nil, err
	}
	var found []string
	for key, size := range objects {
		owner := key
		if rest, ok := strings.CutPrefix(key, "partials/"); ok {
			id, _, _ := strings.Cut(rest, "/")
			owner = "partials/" + id
		}
		want, ok := owned[owner]
		switch {
		case !ok && key != "instance-id" && key != "store-id":
			found = append(found, "no row has the object "+key)
		case ok && want >= 0 && want != size:
			found = append(found, fmt.Sprintf("object %s has %d bytes, its row says %d", key, size, want))
		}
	}
	for key, size := range owned {
		if _, ok := objects[key]; !ok && size >= 0 {
			found = append(found, "there is no object for "+key)
		}
	}
	lost, err := conn.Query(ctx, `
		SELECT 'a manifest of ' || c.repository || ' refers to ' || c.child || ', which has no row'
			FROM manifest_children c JOIN manifests m ON m.repository = c.repository AND m.digest = c.parent
			WHERE c.kind = 0 AND NOT EXISTS (SELECT 1 FROM blobs b WHERE b.digest = c.child)
		UNION ALL SELECT 'damaged: ' || digest || ': ' || reason FROM damaged`)
	if err != nil {
		return nil, err
	}
	lines, err := pgx.CollectRows(lost, pgx.RowTo[string])
	found = append(found, lines...)
	slices.Sort(found)
	return found, err
}
