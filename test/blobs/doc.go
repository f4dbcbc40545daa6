// Package blobs moves instances between files and an object store with `ferry blobs copy`: the built
// program, on versitygw. Its tests have the build tag s3; `make s3` runs them.
package blobs
