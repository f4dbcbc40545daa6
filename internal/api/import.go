package api

import "time"

// An Import is an image of another registry on its way here.
type Import struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	Source    string     `json:"source"`
	Images    []string   `json:"images" nullable:"false" doc:"What it becomes here."`
	Digest    *string    `json:"digest" doc:"Null until the source said it."`
	State     string     `json:"state" enum:"Pending,Running,Succeeded,Failed"`
	Error     *string    `json:"error" doc:"Why it failed, or does not get on just now."`
	Hint      *string    `json:"hint" doc:"What to do about it, where it failed."`
	StartTime time.Time  `json:"startTime"`
	EndTime   *time.Time `json:"endTime"`
	ByteProgress
	Warnings []SourceWarning `json:"warnings" nullable:"false" doc:"What was odd at the source, and did not stop it."`
}

// An ImportPost asks for an image.
type ImportPost struct {
	Source               string   `json:"source" doc:"HOST/REPOSITORY[:TAG][@DIGEST], of which the digest counts; http:// before it is without TLS."`
	Images               []string `json:"images,omitempty" maxItems:"50" doc:"REPOSITORY:TAG here; none is the source's own name, unless that has a digest."`
	Repository           string   `json:"repository,omitempty" doc:"Copy it here without a tag."`
	Force                bool     `json:"force,omitempty" doc:"Move tags that exist."`
	Username             string   `json:"username,omitempty" maxLength:"1024"`
	Password             string   `json:"password,omitempty" maxLength:"65536"`
	CertificateAuthority string   `json:"certificateAuthority,omitempty" maxLength:"262144" doc:"PEM."`
}
