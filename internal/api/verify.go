package api

import "time"

// The states of a [Verification].
const (
	VerifyRunning = "Running"
	VerifyWaiting = "Waiting" // it goes on when its window opens
	VerifyIdle    = "Idle"
)

// A Verification is how far the running pass over everything that is stored is, or what
// the last one found.
type Verification struct {
	State          string     `json:"state" enum:"Running,Waiting,Idle"`
	Asked          bool       `json:"asked" doc:"Whether somebody asked for this pass: then it reads as fast as it can."`
	StartTime      *time.Time `json:"startTime" doc:"Null where there was none yet."`
	EndTime        *time.Time `json:"endTime" doc:"Null while it is not at its end."`
	ItemsTotal     int64      `json:"itemsTotal" doc:"Blobs and manifests."`
	ItemsDone      int64      `json:"itemsDone"`
	ItemsDamaged   int64      `json:"itemsDamaged" doc:"What this pass found."`
	ItemsUnread    int64      `json:"itemsUnread" doc:"What could not be read, for a reason that the log has."`
	BytesTotal     int64      `json:"bytesTotal"`
	BytesDone      int64      `json:"bytesDone"`
	BytesPerSecond int64      `json:"bytesPerSecond" doc:"0 unless it runs."`
	EtaSeconds     *int64     `json:"etaSeconds" doc:"How long the rest takes at this rate; null where nobody knows."`
	DamagedNow     int64      `json:"damagedNow" doc:"What is out of service now and an image needs, whoever found it."`
	NextTime       *time.Time `json:"nextTime" doc:"When the next pass is due; null is when somebody asks."`
}

// A Damaged is stored content that is out of service.
type Damaged struct {
	Digest     string    `json:"digest"`
	Repository *string   `json:"repository" doc:"Of a manifest; null of a blob, which repositories share."`
	Size       int64     `json:"size"`
	Reason     string    `json:"reason" doc:"What is wrong with it."`
	FoundTime  time.Time `json:"foundTime"`
	Images     []string  `json:"images" nullable:"false" doc:"What is not whole without it; at most ten."`
	Fetched    bool      `json:"fetched" doc:"Whether a parent or a mirror rule brings it again. Else it has to be pushed again."`
}
