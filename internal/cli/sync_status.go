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

// A syncListing shows the status of a site's syncs, and a list of its items. On a terminal,
// the list has only items that are not in sync, unless --open=false is given, because a
// site may have thousands of tags.
type syncListing struct {
	open *bool
}

func (l *syncListing) define(set *pflag.FlagSet) {
	textOutputVar(set)
	switchOption(set, &l.open, "open", "false",
		"list only items that are not in sync, which is the default on a terminal; --open=false lists all")
}

// brief reports whether the list omits items although --open was not given.
func (l *syncListing) brief(env *Env) bool {
	return env.asText() && isTerminal(env.Stdout) && l.open == nil
}

// show shows the status and the items, which it reads from path. As text, the items follow
// the sentences in text. As a table, they stand alone. In any other form, they are a member
// of status. sync is the site's own status, or nil.
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
	case env.asTable():
		return writeTable(env.Stdout, items.value, itemColumns(items.value))
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
		omitted := "are in sync"
		if s.Status == api.Unknown {
			omitted = "were in sync then"
			rows = slices.DeleteFunc(rows, func(i api.SyncItem) bool { return i.State == api.Unknown })
		}
		text += fmt.Sprintf("\nItems that %s are not listed; --open=false lists them, too.", omitted)
	}
	if len(rows) > 0 {
		text += "\n"
	}
	env.say(text)
	return writeTable(env.Stdout, rows, itemColumns(rows))
}

// itemColumns returns the columns for items. Progress has columns only if an item is being
// fetched.
func itemColumns(items []api.SyncItem) []column[api.SyncItem] {
	columns := []column[api.SyncItem]{
		{title: "REPOSITORY", text: func(i api.SyncItem) string { return i.Repository }},
		{title: "TAG", text: func(i api.SyncItem) string { return value(i.Tag) }},
		{title: "STATE", text: func(i api.SyncItem) string { return i.State }},
	}
	if slices.ContainsFunc(items, func(i api.SyncItem) bool { return value(i.BytesTotal) > 0 }) {
		columns = append(columns, []column[api.SyncItem]{
			{title: "DONE", text: func(i api.SyncItem) string {
				return doneText(value(i.BytesDone), value(i.BytesTotal))
			}, rank: 2},
			{title: "RATE", text: func(i api.SyncItem) string { return rateText(value(i.BytesPerSecond)) }, rank: 3},
			{title: "LEFT", text: func(i api.SyncItem) string { return timeLeftText(i.EtaSeconds) }, rank: 1},
		}...)
	}
	return append(columns, []column[api.SyncItem]{
		{title: "HERE", text: func(i api.SyncItem) string { return shortDigest(value(i.Digest)) }, rank: 6},
		{title: "PARENT", text: func(i api.SyncItem) string { return shortDigest(value(i.ParentDigest)) }, rank: 5},
		{title: "LAST MATCH (UTC)", text: func(i api.SyncItem) string { return timeText(i.LastMatchTime) }, rank: 4},
		{title: "ERROR", text: func(i api.SyncItem) string { return value(i.Error) }, cut: true},
	}...)
}

// progressText says how many bytes of the total were received. The total is a lower bound
// while some items are not planned yet.
func progressText(p api.ByteProgress) string {
	least := ""
	if p.ItemsUnplanned > 0 {
		least = "at least "
	}
	return fmt.Sprintf("%s of %s%s", config.SizeText(p.BytesDone), least, config.SizeText(p.BytesTotal))
}

// doneText says how many bytes of a total were received; "" if there is no total.
func doneText(done, total int64) string {
	if total == 0 {
		return ""
	}
	return progressText(api.ByteProgress{BytesDone: done, BytesTotal: total})
}

// rateText is a number of bytes a second; "" if it is 0.
func rateText(rate int64) string {
	if rate == 0 {
		return ""
	}
	return config.SizeText(rate) + "/s"
}

// timeLeftText is a number of seconds; "" if it is not known.
func timeLeftText(seconds *int64) string {
	if seconds == nil {
		return ""
	}
	return (time.Duration(*seconds) * time.Second).String()
}

// shortDigest is the beginning of a digest, long enough to tell two apart.
func shortDigest(digest string) string {
	algorithm, hex, ok := strings.Cut(digest, ":")
	if !ok {
		return digest
	}
	return algorithm + ":" + hex[:min(len(hex), 12)]
}

type connectedRegistrySyncStatus struct {
	target
	syncListing
	name   string // "" is all
	filter string
	top    int
	watch  bool
}

func (o *connectedRegistrySyncStatus) define(set *pflag.FlagSet) {
	o.target.define(set)
	textVar(set, &o.name, "name", "n", "NAME", "only this connected registry, tag by tag")
	textVar(set, &o.filter, "filter", "", "TERMS", "only those that satisfy all terms; see above")
	set.IntVar(&o.top, "top", 20, "how many sites are listed at most; 0 is all")
	watchVar(set, &o.watch)
	o.syncListing.define(set)
}

func (o *connectedRegistrySyncStatus) run(ctx context.Context, env *Env, c *client) error {
	switch {
	case o.name == "" && o.open != nil:
		return usagef("--open is for one connected registry: add --name")
	case o.name == "":
		return fleetStatus(ctx, env, c, fleetQuery{filter: o.filter, worst: true, top: o.top}, o.watch)
	case o.filter != "" || o.watch:
		return usagef("--filter and --watch are for all connected registries: leave out --name")
	}
	child, err := get[api.DescendantSync](ctx, c, connectedRegistries.kind, o.name, "sync-status")
	if err != nil {
		return err
	}
	path := resourcePath(connectedRegistries.kind, o.name, "sync-items")
	return o.show(ctx, env, c, path, descendantText(child.value), child.raw, child.value.Sync)
}

// descendantText describes a site in a few sentences.
func descendantText(child api.DescendantSync) string {
	text := fmt.Sprintf("%s is %s", child.Name, child.ConnectionState)
	if child.Sync == nil {
		return fmt.Sprintf("%s. %s: %s.%s", text, verdictText(child.Verdict), value(child.Reason),
			refusedLoginOf(child))
	}
	inactive := child.Activation.Status == "Inactive"
	if inactive {
		text += ": it is not activated"
	}
	sender := "Its"
	if inactive {
		sender = "Its former instance's"
	}
	age := time.Duration(value(child.AgeSeconds)) * time.Second
	return fmt.Sprintf("%s. %s last report came %s ago, at %s.\n%s%s",
		text, sender, age, timeText(child.HeardTime), statusText(*child.Sync), refusedLoginOf(child))
}

// refusedLoginOf describes the login that was refused since the site's last report; "" if
// there is none.
func refusedLoginOf(child api.DescendantSync) string {
	l := child.LastRefusedLogin
	if l == nil || child.HeardTime != nil && !l.Time.After(*child.HeardTime) {
		return ""
	}
	return fmt.Sprintf("\nA login with its sync token was refused at %s, from %s: %s.",
		timeText(&l.Time), terminal.Printable(l.Sender), terminal.Printable(l.Reason))
}

// verdictText is a verdict in a few words, with its time if there is one.
func verdictText(v api.Verdict) string {
	switch at := timeText(v.AsOfTime); {
	case at == "":
		return v.Status
	case v.Status == api.Unknown:
		return v.Status + " since " + at
	default:
		return v.Status + " as of " + at
	}
}

// statusText describes a status in a few sentences.
func statusText(s api.SyncStatus) string {
	at, reason, open := timeText(s.AsOfTime), terminal.Printable(value(s.Reason)), s.ItemsPending+s.ItemsFailed
	var text string
	switch {
	case s.Status == api.InSync:
		text = fmt.Sprintf("In sync as of %s: %s.", at, counted(s.ItemsSynced, "item"))
	case s.Status == api.NotInSync && open > 0:
		text = fmt.Sprintf("Not in sync as of %s: %s.", at, countsText(s, are))
	case s.Status == api.NotInSync:
		text = fmt.Sprintf("Not in sync as of %s: %s.", at, reason)
	case at == "":
		text = fmt.Sprintf("Unknown: %s.", reason)
	default:
		text = fmt.Sprintf("Unknown since %s: %s.", at, reason)
	}
	if s.Status == api.Unknown && s.ItemsSynced+open > 0 {
		text += " Then " + countsText(s, were) + "."
	}
	if at := value(s.Result).LastSuccessfulSyncEndTime; at != nil && s.Status != api.InSync {
		text += " The last sync that succeeded ended at " + timeText(at) + "."
	}
	if s.BytesTotal > 0 && s.ItemsPending+s.ItemsFailed > 0 {
		text += fmt.Sprintf(" %s were received%s.", progressText(s.ByteProgress), rateAndTimeLeft(s.ByteProgress))
	}
	if s.ItemsToSend > 0 {
		text += fmt.Sprintf(" %s changed here %s still to be sent to the parent, at most %s.",
			counted(s.ItemsToSend, "item"), are(s.ItemsToSend), config.SizeText(s.BytesToSend))
	}
	for _, d := range s.Details {
		description := terminal.Printable(d.Description)
		if first, _, _ := strings.Cut(description, " "); !strings.ContainsAny(first, "/:") { // the name of an image
			description = title(description)
		}
		text += "\n" + strings.TrimSuffix(description, ".") + "."
	}
	switch next := timeText(s.NextSyncTime); {
	case s.Paused:
		text += "\nSyncs are paused; ferry sync resume allows them again."
	case next != "" && detailOf(s, budgetSpent) != "":
		text += "\nThe next period in which a sync may run begins at " + next + "."
	case next != "":
		text += "\nThe next sync window opens at " + next + "; ferry sync now opens one at once."
	}
	return text
}

// budgetSpent is the code of the status detail of a site that has spent its byte budget.
const budgetSpent = "BudgetSpent"

// detailOf returns the text of the detail with a code; "" if the status has none.
func detailOf(s api.SyncStatus, code string) string {
	for _, d := range s.Details {
		if d.Code == code {
			return terminal.Printable(d.Description)
		}
	}
	return ""
}

// countsText says how many items are, or were, in which state.
func countsText(s api.SyncStatus, be func(n int) string) string {
	return fmt.Sprintf("%s %s in sync, %d %s pending, %d failed",
		counted(s.ItemsSynced, "item"), be(s.ItemsSynced), s.ItemsPending, be(s.ItemsPending), s.ItemsFailed)
}

// rateAndTimeLeft returns the rate and the time left, as far as they are known, to append
// to a text.
func rateAndTimeLeft(p api.ByteProgress) (text string) {
	if rate := rateText(p.BytesPerSecond); rate != "" {
		text += ", " + rate
	}
	if left := timeLeftText(p.EtaSeconds); left != "" {
		text += ", " + left + " left"
	}
	return text
}

// counted is a number of things, in the plural unless it is one.
func counted(n int, thing string) string { return fmt.Sprintf("%d %s", n, plural(n, thing)) }

// plural returns the plural of a noun, or the noun itself if n is one.
func plural(n int, noun string) string {
	if n == 1 {
		return noun
	}
	return noun + "s"
}

// are returns "is" for one thing, and "are" for any other number.
func are(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

// were is the past of [are].
func were(n int) string {
	if n == 1 {
		return "was"
	}
	return "were"
}
