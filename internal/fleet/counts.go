package fleet

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"ferry/internal/api"
)

// maxVersions is how many versions the counts of a fleet have at most: sites send any text.
const maxVersions = 20

// Counts counts the connected registries that a query selects, by states and reasons.
func (s *Service) Counts(ctx context.Context, q ListQuery) (f api.Fleet, err error) {
	some, err := s.selected(ctx, q)
	if err != nil {
		return f, err
	}
	f = api.Fleet{Time: s.now().UTC(), Sites: len(some)}
	ofState, ofReason, ofVersion := map[string]*api.StateCount{}, map[string]*api.ReasonCount{}, map[string]int{}
	for _, state := range states {
		ofState[state] = &api.StateCount{State: state}
	}
	for _, v := range some {
		bytes := v.BytesToGo()
		f.BytesToGo += bytes
		ofState[v.State].Sites++
		ofState[v.State].BytesToGo += bytes
		if v.Reason != "" {
			if ofReason[v.Reason] == nil {
				ofReason[v.Reason] = &api.ReasonCount{Reason: v.Reason, Action: actions[v.Reason]}
			}
			ofReason[v.Reason].Sites++
			ofReason[v.Reason].BytesToGo += bytes
		}
		if version := v.report.Status.Version; version != "" {
			ofVersion[version]++
		}
		if v.State == api.Behind && (f.OldestSince == nil || v.Since.Before(*f.OldestSince)) {
			f.OldestSince = api.Time(v.Since)
		}
	}
	f.InSync = ofState[api.InSync].Sites
	for _, state := range slices.Backward(states) {
		f.States = append(f.States, *ofState[state])
	}
	f.Reasons = []api.ReasonCount{}
	for _, r := range ofReason {
		f.Reasons = append(f.Reasons, *r)
	}
	slices.SortFunc(f.Reasons, func(a, b api.ReasonCount) int {
		return cmp.Or(cmp.Compare(b.Sites, a.Sites), cmp.Compare(a.Reason, b.Reason))
	})
	f.Versions = []api.VersionCount{}
	for _, version := range slices.Sorted(maps.Keys(ofVersion)) {
		f.Versions = append(f.Versions, api.VersionCount{Version: version, Sites: ofVersion[version]})
	}
	slices.SortStableFunc(f.Versions, func(a, b api.VersionCount) int { return cmp.Compare(b.Sites, a.Sites) })
	f.Versions = f.Versions[:min(len(f.Versions), maxVersions)]
	return f, nil
}
