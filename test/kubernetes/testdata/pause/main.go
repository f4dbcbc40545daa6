// Command pause waits until it is told to end: the process that keeps a pod's sandbox, and the
// application of the tests.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGINT, syscall.SIGTERM)
	<-end
}
