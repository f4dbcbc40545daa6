package api

// Settings are what of a connected registry can be changed later, as a merge
// patch: what is nil stays as it is, and is not in the JSON. wire.Spec has the
// values, under the same names.
type Settings struct {
	Schedule   *string `json:"syncSchedule,omitempty" maxLength:"256" doc:"Cron with five fields, in UTC; * * * * * is continuous, and the default."`
	SyncWindow *string `json:"syncWindow,omitempty" maxLength:"64" doc:"ISO 8601, PT1H to P7D; required with a schedule that is not continuous."`
	MessageTTL *string `json:"syncMessageTtl,omitempty" maxLength:"64" doc:"ISO 8601, P1D to P90D; the default is P2D."`
	LogLevel   *string `json:"logLevel,omitempty" maxLength:"32" doc:"Debug, Information, Warning, Error or None; the default is Information."`
	GCEnabled  *bool   `json:"gcEnabled,omitempty" doc:"The default is true."`
	GCSchedule *string `json:"gcSchedule,omitempty" maxLength:"256" doc:"Cron with five fields, in UTC; the default is 0 0 * * *."`

	TagFilters []string `json:"tagFilters,omitzero" nullable:"false" maxItems:"50" doc:"Only tags that one of these matches: a pattern as v1.*, a regular expression as /^v1/, a range of versions as >=1.2 <2. Empty is every tag, which is the default."`
	KeepLast   *int     `json:"keepLast,omitempty" minimum:"0" maximum:"1000" doc:"Only this many tags of each repository, those that were set last; 0 is all, which is the default."`
	Platforms  []string `json:"platforms,omitzero" nullable:"false" maxItems:"20" doc:"Of indexes only what is for one of these platforms, as linux/amd64 or linux/arm64/v8, and what is for none. Empty is every platform, which is the default."`
	ByteBudget *string  `json:"byteBudget,omitempty" maxLength:"64" doc:"How much the site's syncs may fetch of layers, as 2GiB/day or 20GiB/month, in UTC; once that is spent they wait for the next, but for urgent repositories. Empty is no limit, which is the default."`
	Bandwidth  []string `json:"bandwidth,omitzero" nullable:"false" maxItems:"24" doc:"What the site's syncs may take of its link: a rate as 2MiB or 4Mbit, or HH:MM-HH:MM=RATE in UTC; the first that fits counts. Empty is no limit, which is the default."`
	Priorities []string `json:"priorities,omitzero" nullable:"false" maxItems:"50" doc:"Which repositories come first, as ops/*=urgent or media/*=low: urgent, high, normal or low; the first that fits counts, and what none fits is normal. Urgent ones also come when the byte budget is spent."`
}
