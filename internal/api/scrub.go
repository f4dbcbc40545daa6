package api

import "time"

// The states of a [Scrub].
const (
	ScrubRunning = "Running"
	ScrubWaiting = "Waiting" // until its window opens
	ScrubIdle    = "Idle"
)

// A Scrub is the progress of the running scrub, or the result of the last one.
type Scrub struct {
	State          string     `json:"state" enum:"Running,Waiting,Idle"`
	Asked          bool       `json:"asked" doc:"Whether it was requested, and reads as fast as it can."`
	StartTime      *time.Time `json:"startTime" doc:"Null if there was none yet."`
	EndTime        *time.Time `json:"endTime" doc:"Null until it has ended."`
	ItemsTotal     int64      `json:"itemsTotal" doc:"Blobs and manifests."`
	ItemsDone      int64      `json:"itemsDone"`
	ItemsDamaged   int64      `json:"itemsDamaged" doc:"Damaged items that this scrub found."`
	ItemsUnread    int64      `json:"itemsUnread" doc:"Items that could not be read; the log has the reasons."`
	BytesTotal     int64      `json:"bytesTotal"`
	BytesDone      int64      `json:"bytesDone"`
	BytesPerSecond int64      `json:"bytesPerSecond" doc:"0 unless it runs."`
	EtaSeconds     *int64     `json:"etaSeconds" doc:"The time left at this rate; null if it is not known."`
	DamagedNow     int64      `json:"damagedNow" doc:"Damaged items that are out of service and that an image needs."`
	NextTime       *time.Time `json:"nextTime" doc:"When the next scrub is due; null if none is scheduled."`
}

// A Damaged is a damaged blob or manifest that is out of service.
type Damaged struct {
	Digest     string    `json:"digest"`
	Repository *string   `json:"repository" doc:"Of a manifest; null for a blob, which repositories share."`
	Size       int64     `json:"size"`
	Reason     string    `json:"reason" doc:"What is damaged."`
	FoundTime  time.Time `json:"foundTime"`
	Images     []string  `json:"images" nullable:"false" doc:"At most ten images that are incomplete without it."`
	Fetchable  bool      `json:"fetchable" doc:"Whether it will be fetched again; if not, it must be pushed."`
}
