package cli

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAStatusSaysWhyAndUntilWhen(t *testing.T) {
	detail := func(code, description string) map[string]any {
		return map[string]any{"code": code, "description": description}
	}
	for _, test := range []struct {
		name   string
		status map[string]any
		want   string
	}{
		{"in sync", map[string]any{"inSync": true, "itemsSynced": 3.}, "In sync: 3 items."},
		{
			"the budget is spent",
			map[string]any{
				"itemsSynced": 1., "itemsPending": 2., "nextSyncTime": "2030-01-02T00:00:00Z",
				"details": []any{detail("BudgetSpent", "the byte budget of 2GiB/day is spent; syncs go on in the next period")},
			},
			"Not in sync: 1 items are in sync, 2 are pending, 0 failed.\n" +
				"The byte budget of 2GiB/day is spent; syncs go on in the next period.\n" +
				"The next period in which a sync may run begins at 2030-01-02T00:00:00Z.",
		},
		{
			"the window is closed, and the disk was full",
			map[string]any{
				"itemsFailed": 1., "nextSyncTime": "2030-01-02T00:00:00Z", "details": []any{detail("DiskError", "the disk is full."), detail("ItemsFailed", "1 items are not synced")},
			},
			"Not in sync: 0 items are in sync, 0 are pending, 1 failed.\nThe disk is full.\n1 items are not synced.\n" +
				"The next sync window opens at 2030-01-02T00:00:00Z; ferry sync now opens one at once.",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, sayStatus(test.status)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
