package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"ferry/internal/api"
	"ferry/internal/config"
	"ferry/internal/terminal"
)

// A syncListing lists the items of a site below what is said of them all. On
// a terminal it has only what is open, unless --open=false is given: of a
// site with thousands of tags nobody could read the rest.
type syncListing struct {
	output string // in the place of every command's: sentences for people
	open   *bool
}

func (l *syncListing) define(set *pflag.FlagSet) {
	choiceVar(set, &l.output, "output", "o", "text", "how to show the result", "text", "json", "table", "yaml", "tsv")
	switchOption(set, &l.open, "open", "false", "only what is not in sync; so it is on a terminal unless --open=false")
}

// brief reports whether the listing leaves out what nobody asked it to.
func (l *syncListing) brief(env *Env) bool {
	return env.asText() && isTerminal(env.Stdout) && l.open == nil
}

// show shows the items that are listed at path in the form that was asked for:
// in sentences below text, in a table alone, else as a member of status. sync is
// what the site said; nil is nothing.
func (l *syncListing) show(
	ctx context.Context, env *Env, c *client, path, text string, status json.RawMessage, sync *api.SyncStatus,
) error {
	open := value(l.open) || l.brief(env)
	query := url.Values{"n": {"1000"}, "open": {fmt.Sprint(open)}}
	items, err := pages[api.SyncItem](ctx, c, path, query, "value", 0)
	if err != nil {
		return err
	}
	switch {
	case env.output == "table" && env.query == "":
		return writeTable(env.Stdout, items.value, syncItemColumns(items.value))
	case !env.asText():
		var all map[string]json.RawMessage
		if err := json.Unmarshal(status, &all); err != nil {
			return fmt.Errorf("read sync status: %w", err)
		}
		all["items"] = items.raw
		return env.print(all)
	}
	rows := items.value
	if s := value(sync); l.brief(env) && s.ItemsSynced > 0 {
		left := "is in sync"
		if s.Status == api.Unknown {
			left = "was in sync then"
			rows = slices.DeleteFunc(rows, func(i api.SyncItem) bool { return i.State == api.Unknown })
		}
		text += fmt.Sprintf("\nNot listed: what %s; --open=false lists it, too.", left)
	}
	if len(rows) > 0 {
		text += "\n"
	}
	env.say(text)
	return writeTable(env.Stdout, rows, syncItemColumns(rows))
}

// syncItemColumns are the columns for items; how far one is has columns where
// one of them is on its way.
func syncItemColumns(items []api.SyncItem) []column[api.SyncItem] {
	columns := []column[api.SyncItem]{
		{title: "REPOSITORY", text: func(i api.SyncItem) string { return i.Repository }},
		{title: "TAG", text: func(i api.SyncItem) string { return value(i.Tag) }},
		{title: "STATE", text: func(i api.SyncItem) string { return i.State }},
	}
	if slices.ContainsFunc(items, func(i api.SyncItem) bool { return value(i.BytesTotal) > 0 }) {
		columns = append(columns, []column[api.SyncItem]{
			{title: "DONE", text: func(i api.SyncItem) string {
				return doneOf(value(i.BytesDone), value(i.BytesTotal))
			}, rank: 2},
			{title: "RATE", text: func(i api.SyncItem) string { return rateOf(value(i.BytesPerSecond)) }, rank: 3},
			{title: "LEFT", text: func(i api.SyncItem) string { return leftOf(i.EtaSeconds) }, rank: 1},
		}...)
	}
	return append(columns, []column[api.SyncItem]{
		{title: "HERE", text: func(i api.SyncItem) string { return shortDigest(value(i.Digest)) }, rank: 6},
		{title: "PARENT", text: func(i api.SyncItem) string { return shortDigest(value(i.ParentDigest)) }, rank: 5},
		{title: "LAST MATCH (UTC)", text: func(i api.SyncItem) string { return seconds(i.LastMatchTime) }, rank: 4},
		{title: "ERROR", text: func(i api.SyncItem) string { return value(i.Error) }, cut: true},
	}...)
}

// progressText is how many bytes are here of a total, which may be the least that
// it can be.
func progressText(p api.ByteProgress) string {
	least := ""
	if p.ItemsUnplanned > 0 {
		least = "at least "
	}
	return fmt.Sprintf("%s of %s%s", config.SizeText(p.BytesDone), least, config.SizeText(p.BytesTotal))
}

// doneOf is how many bytes of a total are here; "" where there is no total.
func doneOf(done, total int64) string {
	if total == 0 {
		return ""
	}
	return progressText(api.ByteProgress{BytesDone: done, BytesTotal: total})
}

// rateOf is a number of bytes a second, where there are any.
func rateOf(rate int64) string {
	if rate == 0 {
		return ""
	}
	return config.SizeText(rate) + "/s"
}

// leftOf is a number of seconds, where it is known.
func leftOf(seconds *int64) string {
	if seconds == nil {
		return ""
	}
	return (time.Duration(*seconds) * time.Second).String()
}

// shortDigest is as much of a digest as tells two apart.
func shortDigest(digest string) string {
	algorithm, hex, ok := strings.Cut(digest, ":")
	if !ok {
		return digest
	}
	return algorithm + ":" + hex[:min(len(hex), 12)]
}

type registrySyncStatus struct {
	named
	syncListing
}

func (o *registrySyncStatus) define(set *pflag.FlagSet) {
	o.named.define(set)
	o.syncListing.define(set)
}

func (o *registrySyncStatus) run(ctx context.Context, env *Env, c *client) error {
	env.output = o.output
	site, err := get[api.DescendantSync](ctx, c, connectedRegistries.kind, o.name, "sync-status")
	if err != nil {
		return err
	}
	path := resourcePath(connectedRegistries.kind, o.name, "sync-items")
	return o.show(ctx, env, c, path, saySite(site.value), site.raw, site.value.Sync)
}

// saySite puts what is known of a site into a few sentences.
func saySite(site api.DescendantSync) string {
	text := fmt.Sprintf("%s is %s", site.Name, site.ConnectionState)
	if site.Sync == nil {
		return fmt.Sprintf("%s. %s: %s.%s", text, verdictOf(site.Verdict), value(site.Reason), refusedLoginOf(site))
	}
	inactive := site.Activation.Status == "Inactive"
	if inactive {
		text += ": it is not activated"
	}
	who := "It"
	if inactive {
		who = "The instance that was,"
	}
	age := time.Duration(value(site.AgeSeconds)) * time.Second
	return fmt.Sprintf("%s. %s was heard %s ago, at %s.\n%s%s",
		text, who, age, seconds(site.HeardTime), sayStatus(*site.Sync), refusedLoginOf(site))
}

// refusedLoginOf is the login that was refused since a site was last heard; "" is none.
func refusedLoginOf(site api.DescendantSync) string {
	l := site.LastRefusedLogin
	if l == nil || site.HeardTime != nil && !l.Time.After(*site.HeardTime) {
		return ""
	}
	return fmt.Sprintf("\nA login with its sync token was refused at %s, from %s: %s.",
		seconds(&l.Time), terminal.Printable(l.Source), terminal.Printable(l.Reason))
}

// verdictOf is a verdict in a few words, never without its time.
func verdictOf(v api.Verdict) string {
	switch at := seconds(v.AsOfTime); {
	case at == "":
		return v.Status
	case v.Status == api.Unknown:
		return v.Status + " since " + at
	default:
		return v.Status + " as of " + at
	}
}

// sayStatus puts a status into a sentence or two.
func sayStatus(s api.SyncStatus) string {
	at, reason, open := seconds(s.AsOfTime), terminal.Printable(value(s.Reason)), s.ItemsPending+s.ItemsFailed
	var text string
	switch {
	case s.Status == api.InSync:
		text = fmt.Sprintf("In sync as of %s: %s.", at, counted(s.ItemsSynced, "item"))
	case s.Status == api.NotInSync && open > 0:
		text = fmt.Sprintf("Not in sync as of %s: %s.", at, countsOf(s, are))
	case s.Status == api.NotInSync:
		text = fmt.Sprintf("Not in sync as of %s: %s.", at, reason)
	case at == "":
		text = fmt.Sprintf("Unknown: %s.", reason)
	default:
		text = fmt.Sprintf("Unknown since %s: %s.", at, reason)
	}
	if s.Status == api.Unknown && s.ItemsSynced+open > 0 {
		text += " Then " + countsOf(s, were) + "."
	}
	if at := value(s.Result).LastSuccessfulSyncEndTime; at != nil && s.Status != api.InSync {
		text += " The last sync that succeeded ended at " + seconds(at) + "."
	}
	if s.BytesTotal > 0 && s.ItemsPending+s.ItemsFailed > 0 {
		text += fmt.Sprintf(" %s are here%s.", progressText(s.ByteProgress), paceOf(s.ByteProgress))
	}
	for _, d := range s.Details {
		text += "\n" + strings.TrimSuffix(title(terminal.Printable(d.Description)), ".") + "."
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
			return terminal.Printable(d.Description)
		}
	}
	return ""
}

// countsOf is how many items are, or were, how far.
func countsOf(s api.SyncStatus, be func(n int) string) string {
	return fmt.Sprintf("%s %s in sync, %d %s pending, %d failed",
		counted(s.ItemsSynced, "item"), be(s.ItemsSynced), s.ItemsPending, be(s.ItemsPending), s.ItemsFailed)
}

// paceOf is how fast something comes and how long it still takes, behind what
// is said of it, as far as that is known.
func paceOf(p api.ByteProgress) (text string) {
	if rate := rateOf(p.BytesPerSecond); rate != "" {
		text += ", " + rate
	}
	if left := leftOf(p.EtaSeconds); left != "" {
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

// are is what n things do, and were what they did.
func are(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

func were(n int) string {
	if n == 1 {
		return "was"
	}
	return "were"
}
