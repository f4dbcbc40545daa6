package telemetry

import (
	"runtime/debug"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestBuildHasVersionCommitAndDate(t *testing.T) {
	const commit, date = "0123456789abcdef0123456789abcdef01234567", "2031-05-06T07:08:09Z"
	stamps := []debug.BuildSetting{{Key: "vcs.revision", Value: commit}, {Key: "vcs.time", Value: date},
		{Key: "vcs.modified", Value: "true"}}
	for _, test := range []struct {
		name     string
		version  string
		settings []debug.BuildSetting
		want     Build
	}{
		{"release", "v1.2.3", stamps, Build{"v1.2.3", commit, date, true}},
		{"checkout without a version", "(devel)", stamps, Build{"dev-0123456789ab", commit, date, true}},
		{"no checkout", "", nil, Build{Version: "dev"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := buildOf(&debug.BuildInfo{Main: debug.Module{Version: test.version}, Settings: test.settings})
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("build (-want +got):\n%s", diff)
			}
		})
	}
}
