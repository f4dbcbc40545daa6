// Package e2e tests the built program from outside: with the clients that
// people use, with the commands of the user story, and over links and disks
// that fail. Its tests have the build tag e2e; `make e2e` runs them.
package e2e
