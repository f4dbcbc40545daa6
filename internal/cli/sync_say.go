package cli

import (
	"fmt"
	"strings"

	"ferry/internal/api"
	"ferry/internal/config"
)

// sayStatus puts a status into a sentence or two.
func sayStatus(s api.SyncStatus) string {
	var text string
	switch {
	case s.InSync:
		text = fmt.Sprintf("In sync: %s.", counted(s.ItemsSynced, "item"))
	case s.ItemsPending+s.ItemsFailed == 0:
		text = "Not in sync: no sync came to its end yet."
	default:
		text = fmt.Sprintf("Not in sync: %s %s in sync, %d %s pending, %d failed.",
			counted(s.ItemsSynced, "item"), are(s.ItemsSynced), s.ItemsPending, are(s.ItemsPending), s.ItemsFailed)
	}
	if at := value(s.Result).LastSuccessfulSyncEndTime; at != nil {
		text += " Last in sync at " + seconds(at) + "."
	}
	if s.BytesTotal > 0 && s.ItemsPending+s.ItemsFailed > 0 {
		text += fmt.Sprintf(" %s of %s are here%s.", config.SizeText(s.BytesDone), config.SizeText(s.BytesTotal), paceOf(syncProgress(s)))
	}
	for _, d := range s.Details {
		text += "\n" + strings.TrimSuffix(title(printable(d.Description)), ".") + "."
	}
	switch next := seconds(s.NextSyncTime); {
	case s.Paused:
		text += "\nSyncs are paused; ferry sync resume lets them run again."
	case next != "" && detailOf(s, budgetSpent) != "":
		text += "\nThe next period in which a sync may run begins at " + next + "."
	case next != "":
		text += "\nThe next sync window opens at " + next + "; ferry sync now opens one at once."
	}
	return text
}

// budgetSpent is the code of the detail of a site that may fetch no more for now.
const budgetSpent = "BudgetSpent"

// detailOf returns what a status says in the detail of a code; "" is nothing.
func detailOf(s api.SyncStatus, code string) string {
	for _, d := range s.Details {
		if d.Code == code {
			return printable(d.Description)
		}
	}
	return ""
}

// paceOf is how fast something comes and how long it still takes, behind what
// is said of it, as far as that is known.
func paceOf(p progress) (text string) {
	if rate := rateOf(p.rate); rate != "" {
		text += ", " + rate
	}
	if left := leftOf(p.left); left != "" {
		text += ", " + left + " left"
	}
	return text
}

// counted is a number of things, which end in s where they are not one.
func counted(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

// are is what n things do.
func are(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}
