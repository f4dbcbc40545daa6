package fleet

import (
	"ferry/internal/control"
	"ferry/internal/events"
)

// maxNotifications is how many patterns a connected registry may have.
const maxNotifications = 100

// notifications checks patterns of events and returns them without duplicates.
func notifications(patterns []string) ([]string, error) {
	for _, p := range patterns {
		if _, err := events.ParsePattern(p); err != nil {
			return nil, control.Invalid("notification '%.100s': %s", p, err).
				WithHint("examples: team/app:1.0:push, team/*:*, *@*:delete")
		}
	}
	all := control.Union(nil, patterns)
	if len(all) > maxNotifications {
		return nil, control.Invalid("%d notifications are too many: at most %d are allowed", len(all), maxNotifications)
	}
	return all, nil
}
