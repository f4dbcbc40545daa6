package events

import (
	"encoding/json"
	"net/url"
	"strconv"
	"time"

	"ferry/internal/metadb"
)

// The types of CloudEvents. The first two are the reference's.
const (
	typePushed    = "Microsoft.ContainerRegistry.ImagePushed"
	typeDeleted   = "Microsoft.ContainerRegistry.ImageDeleted"
	typeComplete  = "Ferry.ImageComplete"
	typeFailed    = "Ferry.ImageFailed"
	typeFirstPull = "Ferry.ImagePulledFirst"
	typeDropped   = "Ferry.EventsDropped"
	typePing      = "Ferry.Ping"
)

var cloudTypes = map[string]string{
	Push: typePushed, Delete: typeDeleted, Complete: typeComplete, Failed: typeFailed, FirstPull: typeFirstPull,
	Dropped: typeDropped, ping: typePing,
}

// ping is the type of a test of a webhook.
const ping = "ping"

// A CloudEvent is an event in the form of CloudEvents 1.0. Its data is that of the reference's events,
// with fields of Ferry's own.
type CloudEvent struct {
	SpecVersion     string    `json:"specversion"`
	ID              string    `json:"id"`
	Source          string    `json:"source"`
	Type            string    `json:"type"`
	Subject         string    `json:"subject,omitempty"`
	Time            time.Time `json:"time"`
	DataContentType string    `json:"datacontenttype"`
	Data            Data      `json:"data"`
}

// Data is the data of a [CloudEvent].
type Data struct {
	ID                string             `json:"id"`
	Timestamp         time.Time          `json:"timestamp"`
	Action            string             `json:"action"`
	Target            *Target            `json:"target,omitempty"`
	ConnectedRegistry *ConnectedRegistry `json:"connectedRegistry,omitempty"` // where it happened; absent: at the root
	Reason            string             `json:"reason,omitempty"`            // a code, of a failure
	Message           string             `json:"message,omitempty"`           // for people
	Dropped           int64              `json:"dropped,omitempty"`           // how many events were lost
}

// A Target is the tag or the manifest of an event.
type Target struct {
	MediaType  string `json:"mediaType,omitempty"`
	Size       int64  `json:"size,omitempty"`   // of the manifest, in bytes
	Length     int64  `json:"length,omitempty"` // the same, as in the reference
	Digest     string `json:"digest,omitempty"`
	Repository string `json:"repository"`
	Tag        string `json:"tag,omitempty"`
}

// A ConnectedRegistry names the connected registry of an event.
type ConnectedRegistry struct {
	Name string `json:"name"`
}

// cloudEvent returns an event in the form in which it is delivered. source is the address of the
// root; "" leaves it out.
func cloudEvent(e metadb.Event, source string) json.RawMessage {
	c := CloudEvent{
		SpecVersion: "1.0", ID: e.Origin, Source: source + "/", Type: cloudTypes[e.Type], Time: e.At.UTC(),
		DataContentType: "application/json",
		Data: Data{
			ID: e.Origin, Timestamp: e.At.UTC(), Action: e.Type, Reason: e.Reason, Message: e.Detail,
		},
	}
	if e.Registry != "" {
		c.ID = e.Registry + "/" + e.Origin
		c.Data.ID = c.ID
		c.Source += "connectedRegistries/" + url.PathEscape(e.Registry)
		c.Data.ConnectedRegistry = &ConnectedRegistry{e.Registry}
	}
	if e.Type == Dropped {
		c.Data.Dropped = e.Size
		c.ID += "/" + strconv.FormatInt(e.Size, 10) // its number grows while it waits
		c.Data.ID = c.ID
	}
	if e.Repository != "" {
		c.Subject = e.Repository
		switch {
		case e.Tag != "":
			c.Subject += ":" + e.Tag
		case e.Digest != "":
			c.Subject += "@" + e.Digest
		}
		c.Data.Target = &Target{
			MediaType: e.MediaType, Size: e.Size, Length: e.Size, Digest: e.Digest,
			Repository: e.Repository, Tag: e.Tag,
		}
	}
	text, err := json.Marshal(c)
	if err != nil {
		panic(err) // it holds texts and numbers
	}
	return text
}
