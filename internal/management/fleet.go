package management

import (
	"context"
	"net/url"
	"strconv"
	"time"

	"ferry/internal/api"
	"ferry/internal/fleet"
)

func (h *handler) fleet() {
	register(h, operation{"GET /fleet", "get-fleet", "Count the connected registries by their states and reasons"},
		func(ctx context.Context, in *struct {
			Call
			Parent string `query:"parent" doc:"Only descendants of this one."`
			Filter string `query:"filter" doc:"Terms such as state:behind behind>1d reason:DiskError group:baltic."`
		}) (*plain[api.Fleet], error) {
			v, err := h.Fleet.Counts(ctx, fleet.ListQuery{By: in.by, Parent: in.Parent, Filter: in.Filter})
			return &plain[api.Fleet]{v}, err
		})
	register(h, operation{"GET /coverage", "get-coverage",
		"List which connected registries have an image, which do not, and why"},
		func(ctx context.Context, in *struct {
			Call
			Image   string  `query:"image" required:"true" example:"factory/app:v1.0" doc:"With a tag or a digest."`
			Filter  string  `query:"filter" doc:"Only of these, such as group:baltic."`
			Missing bool    `query:"missing" doc:"List only those that should have it, and are not known to."`
			N       int     `query:"n" minimum:"1" maximum:"1000" default:"100" doc:"How many at most."`
			After   string  `query:"after" doc:"The name after which the page begins."`
			Wait    int     `query:"wait" minimum:"0" maximum:"60" doc:"Seconds to wait until percent have it."`
			Percent float64 `query:"percent" minimum:"0" maximum:"100" default:"100" doc:"For wait."`
		}) (*plain[api.Coverage], error) {
			q := fleet.CoverageQuery{By: in.by, Image: in.Image, Filter: in.Filter, Missing: in.Missing,
				After: in.After, Limit: in.N}
			v, next, err := h.Fleet.AwaitCoverage(ctx, q, in.Percent, time.Duration(in.Wait)*time.Second)
			if err == nil && next != "" {
				missing := ""
				if in.Missing {
					missing = strconv.FormatBool(true)
				}
				link := url.Values{"image": {in.Image}, "filter": {in.Filter}, "missing": {missing}}
				v.NextLink = linkAfter(next, "/coverage", link, in.N)
			}
			return &plain[api.Coverage]{v}, err
		})
}
