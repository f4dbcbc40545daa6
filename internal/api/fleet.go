package api

import "time"

// The states of a connected registry in the [Summary] of its ancestors, beside [InSync] and [Unknown].
const (
	CatchingUp = "CatchingUp"
	Waiting    = "Waiting"
	Behind     = "Behind"
	Silent     = "Silent"
	NeedsYou   = "NeedsYou"
)

// A Summary is how a connected registry stands, in one row: its state, why, and how long it takes.
type Summary struct {
	State          string     `json:"state" enum:"InSync,CatchingUp,Waiting,Unknown,Behind,Silent,NeedsYou"`
	Reason         *string    `json:"reason" doc:"A code, such as DiskError; null if nothing is wrong."`
	Action         *string    `json:"action" doc:"What settles the reason."`
	Cause          *string    `json:"cause" doc:"The connected registry above it that is the reason."`
	Since          *time.Time `json:"since" doc:"Since when it is not known to have everything; null if it has."`
	LagSeconds     *int64     `json:"lagSeconds" doc:"The time since then."`
	ItemsToGo      int        `json:"itemsToGo"`
	BytesToGo      int64      `json:"bytesToGo"`
	AtLeast        bool       `json:"atLeast" doc:"Whether there may be more items or bytes than are known."`
	AtMost         bool       `json:"atMost" doc:"Whether there may be fewer, because it has some of what changed."`
	BytesPerSecond int64      `json:"bytesPerSecond" doc:"0 while no sync runs."`
	NextWindowTime *time.Time `json:"nextWindowTime" doc:"When its next sync window opens; null while one is open."`
	EtaTime        *time.Time `json:"etaTime" doc:"When it should have everything, by its rate, windows, and budget."`
	EtaWindows     *int       `json:"etaWindows" doc:"The number of windows until then; null if it syncs continuously."`
}

// A Fleet counts connected registries by their states and reasons.
type Fleet struct {
	Time      time.Time `json:"time" doc:"When this was so."`
	Sites     int       `json:"sites"`
	InSync    int       `json:"inSync"`
	BytesToGo int64     `json:"bytesToGo"`
	// OldestSince is that of the connected registries that are Behind.
	OldestSince *time.Time     `json:"oldestSince" doc:"Since when the one that is behind for longest is not equal."`
	States      []StateCount   `json:"states" nullable:"false" doc:"The worst first."`
	Reasons     []ReasonCount  `json:"reasons" nullable:"false" doc:"The most frequent first."`
	Versions    []VersionCount `json:"versions" nullable:"false" doc:"At most 20, the most frequent first."`
}

// A StateCount is the number of connected registries in a state.
type StateCount struct {
	State     string `json:"state" enum:"InSync,CatchingUp,Waiting,Unknown,Behind,Silent,NeedsYou"`
	Sites     int    `json:"sites"`
	BytesToGo int64  `json:"bytesToGo"`
}

// A ReasonCount is the number of connected registries with a reason.
type ReasonCount struct {
	Reason    string `json:"reason"`
	Action    string `json:"action" doc:"What settles it."`
	Sites     int    `json:"sites"`
	BytesToGo int64  `json:"bytesToGo" doc:"Of these connected registries."`
}

// A VersionCount is the number of connected registries that run a version.
type VersionCount struct {
	Version string `json:"version"`
	Sites   int    `json:"sites"`
}

// The states of an image at a connected registry.
const (
	Has           = "Has"
	Lacks         = "Lacks"
	NotSubscribed = "NotSubscribed"
)

// A Coverage says which connected registries have an image.
type Coverage struct {
	Time          time.Time      `json:"time" doc:"When this was so."`
	Image         string         `json:"image"`
	Digest        string         `json:"digest" doc:"Of the image here."`
	Sites         int            `json:"sites" doc:"Whose subscription has the image."`
	Have          int            `json:"have" doc:"Of these."`
	Lack          int            `json:"lack" doc:"Of these."`
	Unknown       int            `json:"unknown" doc:"Of these: it is not known whether they have it."`
	NotSubscribed int            `json:"notSubscribed" doc:"Connected registries that do not get the image."`
	Percent       float64        `json:"percent" doc:"Of sites, how many have it."`
	Value         []CoverageItem `json:"value" nullable:"false"`
	NextLink      string         `json:"nextLink,omitempty" doc:"The address of the next page; absent on the last one."`
}

// A CoverageItem says whether one connected registry has an image.
type CoverageItem struct {
	Name     string     `json:"name"`
	Image    string     `json:"image" enum:"Has,Lacks,Unknown,NotSubscribed"`
	AsOfTime *time.Time `json:"asOfTime" doc:"When the connected registry was last heard."`
	Reason   *string    `json:"reason" doc:"A code that says why it lacks the image; null if it has the image."`
	Error    *string    `json:"error" doc:"Of the last try to fetch it."`
	Summary  Summary    `json:"summary"`
}
