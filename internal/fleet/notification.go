package fleet

import (
	"ferry/internal/control"
	"ferry/internal/events"
)

// notifications checks patterns of events and returns them without duplicates.
func (s *Service) notifications(patterns []string) ([]string, error) {
	for _, p := range patterns {
		if _, err := events.ParsePattern(p); err != nil {
			return nil, control.Invalid("notification '%.100s': %s", p, err).
				WithHint("examples: team/app:1.0:push, team/*:*, *@*:delete")
		}
	}
	all := control.Union(nil, patterns)
	if most := s.control.Maxima().Notifications; len(all) > most {
		return nil, control.Invalid("%d notifications are too many: at most %d are allowed", len(all), most).
			WithHint("raise notifications in --limits of ferry serve")
	}
	return all, nil
}
