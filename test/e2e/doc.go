// Package e2e tests the built program from outside: with the clients that people use, with
// the commands of the user story, over links that fail, and on disks that are full. Its
// tests have the build tag e2e; `make e2e` runs them.
package e2e
