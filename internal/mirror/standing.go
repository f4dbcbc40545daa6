package mirror

import "ferry/internal/metadb"

// A Standing is how a rule stands.
type Standing string

// The standings of a rule.
const (
	Waiting   Standing = "Waiting" // for its first run, or for one that somebody asked for
	Running   Standing = "Running"
	InSync    Standing = "InSync"    // as the last run left it
	Failed    Standing = "Failed"    // the last run did not end in step
	BrokenOff Standing = "BrokenOff" // the last run did not end, and goes on with the next
)

// StandingOf returns how a rule stands, of which a run goes on or not.
func StandingOf(r metadb.MirrorRule, running bool) Standing {
	switch {
	case running:
		return Running
	case r.StartedAt.IsZero() || r.AskedAt.After(r.StartedAt):
		return Waiting
	case !r.SucceededAt.Before(r.StartedAt):
		return InSync
	case r.EndedAt.Before(r.StartedAt) || r.Error == "":
		return BrokenOff
	}
	return Failed
}
