package api

import "time"

// A Repository is a repository of the registry. It has the counts only if it was requested by name.
type Repository struct {
	Name           string    `json:"name"`
	CreatedTime    time.Time `json:"createdTime"`
	LastUpdateTime time.Time `json:"lastUpdateTime"`
	ManifestCount  *int      `json:"manifestCount,omitempty"`
	TagCount       *int      `json:"tagCount,omitempty"`
}
