package cli

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Messages are the flags that say which messages a command writes to standard error.
type messages struct {
	onlyErrors, verbose, debug bool
}

func (m *messages) define(set *pflag.FlagSet) {
	set.BoolVar(&m.onlyErrors, "only-show-errors", false, "write no warnings, notes and progress")
	set.BoolVar(&m.verbose, "verbose", false, "also write a line for each request")
	set.BoolVar(&m.debug, "debug", false, "also write each request and its answer, without secrets")
}

// flagVariables are the variables that give a flag its value if the command line does not. Those of
// the reference count, too. The slice is never written.
var flagVariables = []struct {
	flag  string
	names []string
}{
	{"output", []string{"FERRY_OUTPUT", "AZURE_CORE_OUTPUT"}},
	{"only-show-errors", []string{"FERRY_ONLY_SHOW_ERRORS", "AZURE_CORE_ONLY_SHOW_ERRORS"}},
}

// begin prepares a command that is about to run.
func (e *Env) begin(cmd *cobra.Command) error {
	for _, v := range flagVariables {
		f := cmd.Flags().Lookup(v.flag)
		for _, name := range v.names {
			text := e.Getenv(name)
			if f.Changed || text == "" {
				continue
			}
			if err := f.Value.Set(text); err != nil {
				return usagef("the variable %s: %v", name, err)
			}
			break
		}
	}
	e.output = strings.ToLower(cmd.Flags().Lookup("output").Value.String()) // some commands have their own
	serves := cmd.Name() == "serve" || cmd.Name() == "demo"
	if e.onlyErrors && !serves { // an instance writes its log there
		e.Stderr = io.Discard
	}
	e.waits = &waits{out: e.Stderr, dumb: e.dumb()}
	if e.file.path != "" && serves {
		return usagef("--to-file: ferry %s has no result", cmd.Name())
	}
	return e.file.begin(e)
}

// connect makes a client write the messages that the flags ask for.
func (e *Env) connect(c *client) {
	c.waits = e.waits
	if e.verbose || e.debug {
		c.http.Transport = &tracer{next: c.http.Transport, out: e.errors, full: e.debug, secret: c.login.Password}
	}
}

// Times of [waits], and what it draws.
const (
	waitShown  = 2 * time.Second        // until it writes that the command waits
	waitAgain  = 30 * time.Second       // until it writes that again, if there is no terminal
	waitDrawn  = 200 * time.Millisecond // between two pictures of the spinner
	waitFrames = `|/-\`
)

// Waits writes what a command waits for, if that takes longer than [waitShown]: as a spinner on a
// terminal, else as a line now and then. The zero value writes nothing.
type waits struct {
	out  io.Writer
	dumb bool // out is no terminal, or one on which nothing can be drawn anew

	mu     sync.Mutex
	active int // begun and not ended
}

// begin begins a wait. reason says what for. The wait ends with end; then nothing more is written.
// Waits within another one are not shown.
func (w *waits) begin(reason func() string) (end func()) {
	if w == nil || w.out == nil {
		return func() {}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.active++
	stop, done := make(chan struct{}), make(chan struct{})
	if w.active == 1 {
		go func() {
			defer close(done)
			w.show(reason, stop)
		}()
	} else {
		close(done)
	}
	return func() {
		close(stop)
		<-done
		w.mu.Lock()
		defer w.mu.Unlock()
		w.active--
	}
}

// show writes what the command waits for, until stop is closed.
func (w *waits) show(reason func() string, stop <-chan struct{}) {
	width := columnsOf(w.out)
	if w.dumb {
		width = 0
	}
	started := time.Now()
	for n, pause := 0, waitShown; ; n++ {
		select {
		case <-stop:
			if width > 0 && n > 0 {
				fmt.Fprint(w.out, "\r\x1b[K")
			}
			return
		case <-time.After(pause):
		}
		text := reason() + " (" + strconv.Itoa(int(time.Since(started).Seconds())) + " s)"
		if width == 0 {
			fmt.Fprintln(w.out, text)
			pause = waitAgain
			continue
		}
		fmt.Fprintf(w.out, "\r\x1b[K%c %s", waitFrames[n%len(waitFrames)], cutText(text, width-3))
		pause = waitDrawn
	}
}

// suspend keeps waits from being shown until resume is called, because something else is drawn.
func (w *waits) suspend() (resume func()) {
	if w == nil {
		return func() {}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.active++
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.active--
	}
}
