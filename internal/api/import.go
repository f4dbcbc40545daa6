package api

import "time"

// Cancelled is the state of an [Import] that an operator ended.
const Cancelled = "Cancelled"

// An Import is the import of an image from another registry.
type Import struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	Source    string     `json:"source"`
	Images    []string   `json:"images" nullable:"false" doc:"The images that it creates here."`
	Digest    *string    `json:"digest" doc:"Null until the source has answered."`
	State     string     `json:"state" enum:"Pending,Running,Succeeded,Failed,Cancelled"`
	Error     *string    `json:"error" doc:"Why it failed, or makes no progress."`
	Hint      *string    `json:"hint" doc:"What to do about the error."`
	StartTime time.Time  `json:"startTime"`
	EndTime   *time.Time `json:"endTime"`
	ByteProgress
	Warnings []SourceWarning `json:"warnings" nullable:"false" doc:"Faults of the source that did not stop it."`
}

// An ImportPost requests an import.
type ImportPost struct {
	// Source with a tag and a digest means the digest.
	Source string `json:"source" doc:"HOST/REPOSITORY[:TAG][@DIGEST], or with http:// without TLS."`
	// Images is by default the source's repository and tag. A source with a digest needs it, or
	// Repository.
	Images               []string `json:"images,omitempty" maxItems:"50" doc:"REPOSITORY:TAG here."`
	Repository           string   `json:"repository,omitempty" doc:"Copy it here without a tag."`
	Force                bool     `json:"force,omitempty" doc:"Move tags that exist."`
	Username             string   `json:"username,omitempty" maxLength:"1024"`
	Password             string   `json:"password,omitempty" maxLength:"65536"`
	CertificateAuthority string   `json:"certificateAuthority,omitempty" maxLength:"262144" doc:"PEM."`
}
