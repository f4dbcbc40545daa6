package api

import "time"

// A Repository is one of the registry's. The counts are there only when it is
// asked for by its name.
type Repository struct {
	Name           string    `json:"name"`
	CreatedTime    time.Time `json:"createdTime"`
	LastUpdateTime time.Time `json:"lastUpdateTime"`
	ManifestCount  *int      `json:"manifestCount,omitempty"`
	TagCount       *int      `json:"tagCount,omitempty"`
}
