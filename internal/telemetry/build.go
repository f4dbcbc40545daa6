package telemetry

import "runtime/debug"

// A Build is the origin of the program, as the Go toolchain recorded it.
type Build struct {
	Version string // of the module; "dev-" and the commit if it has none
	Commit  string // "" if the program was not built from a checkout
	Date    string // of the commit, in the form of RFC 3339; "" if there is none
	// Modified says that the checkout had changes that were not committed.
	Modified bool
}

// ReadBuild returns the origin of this program.
func ReadBuild() Build {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return Build{Version: "dev"}
	}
	return buildOf(info)
}

func buildOf(info *debug.BuildInfo) Build {
	b := Build{Version: info.Main.Version}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.Date = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	switch {
	case b.Version != "" && b.Version != "(devel)":
	case len(b.Commit) >= 12:
		b.Version = "dev-" + b.Commit[:12]
	default:
		b.Version = "dev"
	}
	return b
}

// Version returns the version of the program's module. If the program was built from a
// checkout without a version, it returns "dev-" and the commit.
func Version() string { return ReadBuild().Version }
