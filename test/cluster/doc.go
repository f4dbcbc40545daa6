// Package cluster runs a root as it is deployed on several machines, on loopback: processes of the
// built program on a PostgreSQL and an S3 store of the test's own, behind a proxy. Begin with
// [Start]. Its tests have the build tag cluster; `make cluster` runs them.
package cluster
