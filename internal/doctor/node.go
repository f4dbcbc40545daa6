package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"ferry/internal/noderuntime"
)

// nodeTimeout bounds the search for runtimes, whose programs may hang.
const nodeTimeout = 15 * time.Second

// A Node is a machine whose container runtimes pull.
type Node struct {
	runtimes []noderuntime.Runtime
	of       *noderuntime.Node
}

// NewNode finds the runtimes of a machine.
func NewNode(ctx context.Context, n *noderuntime.Node) *Node {
	ctx, cancel := context.WithTimeout(ctx, nodeTimeout)
	defer cancel()
	return &Node{n.Detect(ctx), n}
}

// Endpoint returns the registry that a runtime of the node is configured for; nil if none is, or
// if its files do not say.
func (n *Node) Endpoint() *noderuntime.Endpoint {
	for _, r := range n.runtimes {
		if c, err := n.of.Configured(r); err == nil && c.Endpoint != nil {
			return c.Endpoint
		}
	}
	return nil
}

// Title implements [Subject].
func (n *Node) Title() string {
	if n.of.Root != "" {
		return "container runtimes of " + n.of.Root
	}
	return "container runtimes of this machine"
}

func (n *Node) checks() (all []check) {
	for _, r := range n.runtimes {
		all = append(all, check{name: string(r.Runtime), within: nodeTimeout, run: func(context.Context) Finding {
			c, err := n.of.Configured(r)
			return judgeRuntime(r, c, err)
		}})
	}
	if len(all) == 0 {
		all = []check{{name: "runtimes", within: nodeTimeout, run: func(context.Context) Finding {
			return warn("no container runtime was found").hint("with --host-root, say where the machine is mounted")
		}}}
	}
	return all
}

// judgeRuntime says whether a runtime is configured, and whether that is effective. The finding has
// the row of the table that applies to the runtime.
func judgeRuntime(r noderuntime.Runtime, c noderuntime.Configured, err error) (f Finding) {
	defer func() { f.Runtime = &r }()
	configure := fmt.Sprintf("run ferry client configure %s --endpoint URL", r.Runtime)
	row := cmp.Or(r.Version, "unknown version")
	if r.Found != "any" {
		row += ", " + r.Found
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fail("%s: this user may not read what was configured", row).hint("run the command as root")
	case err != nil:
		return fail("%s: what was configured cannot be read: %s", row, sentence(err)).hint("%s again", configure)
	case c.MissingLink != "":
		return fail("%s: this version takes several directories for one name, so it reads no hosts.toml", row).
			hint("%s, which makes a link at %s; or set one directory and restart containerd", configure, c.MissingLink)
	case r.Runtime.Prints():
		return skipped("the files of such a node belong to the distribution")
	case len(c.Files) == 0:
		return warn("%s: not configured for a registry of Ferry", row).
			hint("%s, if this machine pulls from one", configure)
	case len(c.Changed) > 0:
		return warn("%s: %d of %d files were changed or removed by others, such as %s", row, len(c.Changed),
			len(c.Files), c.Changed[0]).hint("%s again", configure)
	case len(r.Problems) > 0:
		return warn("%s: %s", row, r.Problems[0]).hint("repair it, then %s again", configure)
	case !r.Live:
		return warn("%s: configured in %s, effective only after a further step", row, strings.Join(r.Files, " and ")).
			hint("unless that is done: %s", r.Step)
	}
	undo := r.Undo
	if c.ByChart {
		undo = "helm uninstall"
	}
	return ok("%s: configured in %s, effective at the next pull; undone by %s", row, strings.Join(r.Files, " and "),
		undo)
}
