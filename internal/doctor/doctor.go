// Package doctor finds out why a registry cannot be used from where the program stands: on a
// node, at a site, or ashore. It checks an [Endpoint] (a parent, or any registry) over the
// network, an [Instance] by its data directory, and the container runtimes of a [Node]. It changes
// nothing. Begin with [Run].
//
// A check is a function that returns a [Finding]: one sentence that says what is so, and, if
// something is wrong, one that says what to do. No finding contains a password.
package doctor

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"ferry/internal/noderuntime"
)

// A Status is the outcome of a check.
type Status string

// The outcomes of a check.
const (
	OK      Status = "ok"
	Warn    Status = "warn" // it works, but not well or not for long
	Fail    Status = "fail" // it does not work
	Skipped Status = "skip" // it was not checked
)

// A Finding is what a check found.
type Finding struct {
	Status Status `json:"status"`
	Text   string `json:"finding"`          // one sentence
	Remedy string `json:"remedy,omitempty"` // what to do, in one sentence; "" if nothing

	// Runtime is, of a check of a node, the row of the runtimes' table that applies.
	Runtime *noderuntime.Runtime `json:"runtime,omitempty"`
}

func ok(format string, args ...any) Finding {
	return Finding{Status: OK, Text: fmt.Sprintf(format, args...)}
}

func skipped(format string, args ...any) Finding {
	return Finding{Status: Skipped, Text: "not checked, because " + fmt.Sprintf(format, args...)}
}

func warn(format string, args ...any) Finding {
	return Finding{Status: Warn, Text: fmt.Sprintf(format, args...)}
}

func fail(format string, args ...any) Finding {
	return Finding{Status: Fail, Text: fmt.Sprintf(format, args...)}
}

// hint returns the finding with its remedy.
func (f Finding) hint(format string, args ...any) Finding {
	f.Remedy = fmt.Sprintf(format, args...)
	return f
}

// A Result is the finding of one check.
type Result struct {
	Check string `json:"check"`
	Finding
	Milliseconds int64 `json:"milliseconds"` // how long the check took
}

// A Report has the results about one subject, in the order of its checks.
type Report struct {
	Subject string   `json:"subject"` // such as "parent https://home.example"
	Checks  []Result `json:"checks"`
}

// Count returns how many results of the reports have a status.
func Count(reports []Report, s Status) (n int) {
	for _, r := range reports {
		for _, c := range r.Checks {
			if c.Status == s {
				n++
			}
		}
	}
	return n
}

// A Subject is something to check.
type Subject interface {
	// Title names the subject.
	Title() string
	checks() []check
}

// A check is one question about a subject.
type check struct {
	name string
	// needs are the checks without whose success this one cannot be made, and after those that it
	// waits for. Both stand before it in the list of checks.
	needs, after []string
	within       time.Duration // how long it may take
	run          func(ctx context.Context) Finding
}

// Run checks the subjects at the same time, and returns a report on each.
func Run(ctx context.Context, subjects ...Subject) []Report {
	reports := make([]Report, len(subjects))
	var all sync.WaitGroup
	for i, s := range subjects {
		all.Go(func() { reports[i] = Report{Subject: s.Title(), Checks: runChecks(ctx, s.checks())} })
	}
	all.Wait()
	return reports
}

// runChecks runs each check as soon as those are done that it needs or follows.
func runChecks(ctx context.Context, checks []check) []Result {
	results := make([]Result, len(checks))
	done := map[string]chan struct{}{}
	at := map[string]*Result{}
	for i, c := range checks {
		done[c.name], at[c.name] = make(chan struct{}), &results[i]
	}
	var all sync.WaitGroup
	for i, c := range checks {
		all.Go(func() {
			defer close(done[c.name])
			for _, name := range append(c.needs, c.after...) {
				<-done[name]
			}
			results[i].Check = c.name
			for _, name := range c.needs {
				switch at[name].Status {
				case Fail:
					results[i].Finding = skipped("%s failed", name)
					return
				case Skipped:
					results[i].Finding = skipped("%s was not checked", name)
					return
				}
			}
			start := time.Now()
			results[i].Finding = runCheck(ctx, c)
			results[i].Milliseconds = time.Since(start).Milliseconds()
		})
	}
	all.Wait()
	return results
}

// overtime is how much longer than its deadline a check may take, to say so itself.
const overtime = time.Second

// runCheck runs a check. If its function does not return although its context has ended, such
// as on a disk that hangs, the check fails, and the function is left behind.
func runCheck(ctx context.Context, c check) Finding {
	ctx, cancel := context.WithTimeout(ctx, c.within)
	defer cancel()
	found := make(chan Finding, 1)
	go func() { found <- c.run(ctx) }()
	select {
	case f := <-found:
		return f
	case <-time.After(c.within + overtime):
		return fail("no result within %s", c.within)
	}
}

// sentence returns the text of an error without line ends.
func sentence(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
