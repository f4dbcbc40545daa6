package s3

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math"
	"net/http"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/encrypt"
	"golang.org/x/sync/errgroup"

	"ferry/internal/retry"
	"ferry/internal/storage/blob"
)

// Time limits of requests. Each includes the retries.
const (
	requestTimeout = 30 * time.Second // of a request without much content
	putTimeout     = 2 * time.Minute  // of a request that sends or copies a segment
	stallTimeout   = 30 * time.Second // without a byte of content
)

// deletes is how many objects are deleted at a time.
const deletes = 8

// objects are the requests that a store makes, with keys below its prefix. Errors are those of
// package blob, where these fit.
type objects struct {
	*minio.Core
	bucket     string
	prefix     string // "" or ends with a slash
	encryption encrypt.ServerSide
}

// A condition is what must be true for a write.
type condition struct {
	header, etag string
}

var (
	always   = condition{}
	ifAbsent = condition{"If-None-Match", "*"}
)

// ifMatches is the condition that the object still has an ETag.
func ifMatches(etag string) condition { return condition{"If-Match", etag} }

// errCondition is returned, wrapped, by a write whose condition is not true.
var errCondition = errors.New("the object is not in the expected state")

func (o *objects) options(c condition, meta map[string]string) minio.PutObjectOptions {
	options := minio.PutObjectOptions{ServerSideEncryption: o.encryption, UserMetadata: maps.Clone(meta)}
	switch c.header {
	case "If-None-Match":
		options.SetMatchETagExcept(c.etag)
	case "If-Match":
		options.SetMatchETag(c.etag)
	}
	return options
}

// put writes an object, and returns its ETag. The store verifies the checksum.
func (o *objects) put(
	ctx context.Context, key string, content io.ReadSeeker, c condition, meta map[string]string,
) (etag string, err error) {
	ctx, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()
	size, sum, err := checksum(content)
	if err != nil {
		return "", err
	}
	options := o.options(c, meta)
	if options.UserMetadata == nil {
		options.UserMetadata = map[string]string{}
	}
	options.UserMetadata[checksumHeader] = sum
	info, err := o.PutObject(ctx, o.bucket, o.prefix+key, content, size, "", "", options)
	return info.ETag, o.convert(ctx, err)
}

// checksumHeader is the header of the checksum that the store verifies.
const checksumHeader = "X-Amz-Checksum-Crc32c"

// checksum returns the size and the checksum of content, in the form of [checksumHeader].
func checksum(content io.ReadSeeker) (size int64, sum string, err error) {
	h := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	if size, err = io.Copy(h, content); err == nil {
		_, err = content.Seek(0, io.SeekStart)
	}
	return size, base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, h.Sum32())), err
}

// head describes an object.
func (o *objects) head(ctx context.Context, key string) (minio.ObjectInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	info, err := o.StatObject(ctx, o.bucket, o.prefix+key, minio.StatObjectOptions{})
	return info, o.convert(ctx, err)
}

// get reads a small object whole. An object of more than limit bytes is an error.
func (o *objects) get(ctx context.Context, key string, limit int64) (content []byte, etag string, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	for try := 0; ; try++ {
		body, info, _, err := o.GetObject(ctx, o.bucket, o.prefix+key, minio.GetObjectOptions{})
		if err != nil {
			return nil, "", o.convert(ctx, err)
		}
		content, err = io.ReadAll(io.LimitReader(body, limit+1))
		body.Close()
		if int64(len(content)) > limit {
			return nil, "", fmt.Errorf("object %s has more than %d bytes", key, limit)
		}
		if err == nil && int64(len(content)) < info.Size {
			err = io.ErrUnexpectedEOF
		}
		if err == nil || try == readTries {
			return content, info.ETag, o.convert(ctx, err)
		}
	}
}

// everything is the range of all bytes of an object.
var everything = blob.Range{End: math.MaxInt64}

// getRange opens a range of an object, if the object still has an ETag. The body ends with an error
// if it stalls.
func (o *objects) getRange(ctx context.Context, key, etag string, asked blob.Range) (io.ReadCloser, error) {
	options := minio.GetObjectOptions{}
	if err := options.SetMatchETag(etag); err != nil {
		return nil, err
	}
	if asked != everything {
		if err := options.SetRange(asked.Start, asked.End-1); err != nil {
			return nil, err
		}
	}
	ctx, watchdog := retry.Watch(ctx, requestTimeout)
	body, _, _, err := o.GetObject(ctx, o.bucket, o.prefix+key, options)
	if err != nil {
		err = o.convert(ctx, watchdog.Cause(err))
		watchdog.Stop()
		return nil, err
	}
	return watchdog.Body(body, stallTimeout), nil
}

// remove deletes objects. It is no error if one does not exist.
func (o *objects) remove(ctx context.Context, keys ...string) error {
	var g errgroup.Group
	g.SetLimit(deletes)
	for _, key := range keys {
		g.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, requestTimeout)
			defer cancel()
			err := o.convert(ctx, o.RemoveObject(ctx, o.bucket, o.prefix+key, minio.RemoveObjectOptions{}))
			if errors.Is(err, blob.ErrNotExist) {
				return nil
			}
			return err
		})
	}
	return g.Wait()
}

// list calls fn for each object whose key begins with dir; unless it is deep, for each first
// part of their names below dir.
func (o *objects) list(ctx context.Context, dir string, deep bool, fn func(minio.ObjectInfo) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	options := minio.ListObjectsOptions{Prefix: o.prefix + dir, Recursive: deep, FetchOwner: new(bool)}
	for info := range o.ListObjectsIter(ctx, o.bucket, options) {
		if err := o.convert(ctx, info.Err); err != nil {
			return err
		}
		if err := fn(info); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// convert returns the error of package blob for an error of the client.
func (o *objects) convert(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); errors.Is(cause, context.Canceled) {
		return cause
	}
	answer := minio.ToErrorResponse(err)
	switch answer.StatusCode {
	case http.StatusNotFound:
		if answer.Code == minio.NoSuchBucket {
			return fmt.Errorf("%w: bucket %s does not exist", blob.ErrUnavailable, o.bucket)
		}
		return blob.ErrNotExist
	case http.StatusPreconditionFailed, http.StatusConflict:
		return fmt.Errorf("%w: %s", errCondition, answer.Code)
	case http.StatusBadRequest, http.StatusRequestedRangeNotSatisfiable:
		return fmt.Errorf("%s: %s", answer.Code, answer.Message)
	case 0:
		return fmt.Errorf("%w: %w", blob.ErrUnavailable, retry.WithoutURL(err))
	}
	return fmt.Errorf("%w: %d %s: %s", blob.ErrUnavailable, answer.StatusCode, answer.Code, answer.Message)
}

// bytesOf is content for [objects.put].
func bytesOf(content []byte) io.ReadSeeker { return bytes.NewReader(content) }
