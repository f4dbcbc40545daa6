package fleet

import (
	"regexp"
	"strings"

	"ferry/internal/control"
	"ferry/internal/oci"
)

// Limits on a connected registry's notifications.
const (
	maxNotifications      = 100
	maxNotificationLength = 512
)

var tagPattern = regexp.MustCompile(`^(\*|[A-Za-z0-9_][A-Za-z0-9._-]{0,127})$`)

// checkNotification returns an error unless text is a pattern of events:
//
//	name [":" tag] ["@" digest] ":" action
//
// The action is push, delete or *. Any part may be *, and a name may end in /*.
func checkNotification(text string) error {
	bad := func(why string) error {
		return control.Invalid("notification '%.100s': %s", text,
			why).WithHint("examples: team/app:1.0:push, team/*:*, *@*:delete")
	}
	if len(text) > maxNotificationLength {
		return bad("it is too long")
	}
	end := strings.LastIndex(text, ":")
	if end < 0 {
		return bad("it has no action")
	}
	switch text[end+1:] {
	case "push", "delete", "*":
	default:
		return bad("its action is not push, delete or *")
	}
	artifact, digest, hasDigest := strings.Cut(text[:end], "@")
	if hasDigest && digest != "*" {
		if _, err := oci.ParseDigest(digest); err != nil {
			return bad("its digest is not valid")
		}
	}
	name, tag, hasTag := strings.Cut(artifact, ":")
	if hasTag && !tagPattern.MatchString(tag) {
		return bad("its tag is not valid")
	}
	if name == "*" {
		return nil
	}
	if oci.CheckRepository(strings.TrimSuffix(name, "/*")) != nil {
		return bad("its name is not a repository, team/* or *")
	}
	return nil
}

// notifications checks patterns and returns them without duplicates.
func notifications(patterns []string) ([]string, error) {
	for _, p := range patterns {
		if err := checkNotification(p); err != nil {
			return nil, err
		}
	}
	all := control.Union(nil, patterns)
	if len(all) > maxNotifications {
		return nil, control.Invalid("%d notifications are too many: at most %d are allowed", len(all), maxNotifications)
	}
	return all, nil
}
