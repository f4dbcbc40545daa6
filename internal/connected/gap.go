package connected

import (
	"fmt"
	"strings"
	"time"

	"ferry/internal/terminal"
	"ferry/internal/wire"
)

// maxGapNames bounds the names in the detail of [gapDetail].
const maxGapNames = 5

// gapDetail returns the status detail about repositories that never arrive, because an ancestor may not
// sync them; nil if there are none.
func gapDetail(self wire.ConnectedRegistry, now time.Time) *wire.StatusDetail {
	if len(self.Gaps) == 0 {
		return nil
	}
	names := self.Gaps[:min(len(self.Gaps), maxGapNames)]
	text := "its ancestors may not sync " + strings.Join(names, ", ")
	if more := len(self.Gaps) - len(names); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	text += fmt.Sprintf("; at the root: ferry connected-registry permissions update -n %s --add '%s'", self.Name,
		strings.Join(names, "' '"))
	return &wire.StatusDetail{
		Type: "Permissions", Code: wire.PermissionGap, Timestamp: now.UTC(),
		Description: terminal.Clip(text, maxDetail),
	}
}
