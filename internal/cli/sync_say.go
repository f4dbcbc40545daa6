package cli

import (
	"fmt"
	"strings"
)

// sayStatus puts a status into a sentence or two.
func sayStatus(s map[string]any) string {
	synced, pending, failed := number(s["itemsSynced"]), number(s["itemsPending"]), number(s["itemsFailed"])
	var text string
	switch {
	case s["inSync"] == true:
		text = fmt.Sprintf("In sync: %s.", counted(synced, "item"))
	case pending+failed == 0:
		text = "Not in sync: no sync came to its end yet."
	default:
		text = fmt.Sprintf("Not in sync: %s %s in sync, %d %s pending, %d failed.", counted(synced, "item"), are(synced), pending, are(pending), failed)
	}
	if at := cell(member(s, "result.lastSuccessfulSyncEndTime")); at != "" {
		text += " Last in sync at " + seconds(at) + "."
	}
	if total := number(s["bytesTotal"]); total > 0 && pending+failed > 0 {
		text += fmt.Sprintf(" %s of %s are here%s.", size(number(s["bytesDone"])), size(total), paceOf(s))
	}
	details, _ := s["details"].([]any)
	for _, d := range details {
		text += "\n" + strings.TrimSuffix(title(printable(cell(member(d, "description")))), ".") + "."
	}
	switch next := cell(s["nextSyncTime"]); {
	case s["paused"] == true:
		text += "\nSyncs are paused; ferry sync resume lets them run again."
	case next != "" && detailOf(s, budgetSpent) != "":
		text += "\nThe next period in which a sync may run begins at " + seconds(next) + "."
	case next != "":
		text += "\nThe next sync window opens at " + seconds(next) + "; ferry sync now opens one at once."
	}
	return text
}

// budgetSpent is the code of the detail of a site that may fetch no more for now.
const budgetSpent = "BudgetSpent"

// detailOf returns what a status says in the detail of a code; "" is nothing.
func detailOf(s map[string]any, code string) string {
	all, _ := s["details"].([]any)
	for _, d := range all {
		if cell(member(d, "code")) == code {
			return printable(cell(member(d, "description")))
		}
	}
	return ""
}

// paceOf is how fast something comes and how long it still takes, behind what
// is said of it, as far as that is known.
func paceOf(v map[string]any) (text string) {
	if rate := rateOf(v["bytesPerSecond"]); rate != "" {
		text += ", " + rate
	}
	if left := leftOf(v["etaSeconds"]); left != "" {
		text += ", " + left + " left"
	}
	return text
}

// counted is a number of things, which end in s where they are not one.
func counted(n int64, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

// are is what n things do.
func are(n int64) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

func number(v any) int64 {
	n, _ := v.(float64)
	return int64(n)
}

// size is a number of bytes for people.
func size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v, i := float64(n), 0
	for v >= 1000 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}
