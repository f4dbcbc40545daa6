package noderuntime

// A Row has the files that are written for a runtime in a range of versions, if a certain
// configuration is found, and what makes them effective.
type Row struct {
	Runtime Kind   `json:"runtime"`
	From    string `json:"from,omitempty"`   // the first version that the row applies to; "" is any
	Before  string `json:"before,omitempty"` // the first version that it no longer applies to; "" is none
	// Found is the configuration that the row applies to.
	Found string `json:"found"`
	// Files are the files that are written, as patterns: HOST is a registry's name as the
	// runtime writes it.
	Files []string `json:"files"`
	// Live reports whether everything is effective at the next pull.
	Live bool `json:"effectiveWithoutRestart"`
	// Step is the command or the change that makes the files effective if not Live.
	Step string `json:"step,omitempty"`
	// Undo brings back the files as they were.
	Undo string `json:"undo"`

	found found
}

// found is a configuration, as the rows of the table tell them apart.
type found int

const (
	anything        found = iota
	oneRoot               // containerd has one directory in config_path
	severalRoots          // several, split by colons
	noRoot                // neither config_path nor mirrors
	legacyMirrors         // registry.mirrors in config.toml
	criDisabled           // the plugin for Kubernetes is off
	notNamed              // registries.yaml does not name the registry
	named                 // registries.yaml names it
	embedded              // the embedded registry of K3s is on
	reloadsByItself       // CRI-O watches registries.conf
	noReload              // it does not
)

// undoFiles is how files are brought back.
func undoFiles(k Kind) string { return "ferry client restore " + string(k) }

// What makes a restore effective. Docker keeps mirrors and registries without TLS when it is
// reloaded and the settings are gone.
const (
	dockerRestart = "systemctl restart docker"
	crioReload    = "systemctl reload crio"
)

// Table returns every row. The table in docs/install/nodes.md is the same.
func Table() []Row {
	certs := []string{"/etc/containerd/certs.d/HOST/hosts.toml"}
	linked := append(certs[:1:1], "/etc/containerd/certs.d:/etc/docker/certs.d -> /etc/containerd/certs.d")
	edited := append(certs[:1:1], "/etc/containerd/config.toml")
	const containerdRestart = "set config_path and restart once: systemctl restart containerd"
	rows := []Row{
		{Runtime: Containerd, found: oneRoot, Found: "config_path with one directory", Files: certs, Live: true},
		{Runtime: Containerd, Before: "2.1", found: severalRoots, Found: "config_path with several directories",
			Files: certs, Live: true},
		{Runtime: Containerd, From: "2.1", found: severalRoots, Found: "config_path with several directories",
			Files: linked, Live: true},
		{Runtime: Containerd, From: "2.2", found: noRoot, Found: "no config_path", Files: linked, Live: true},
		{Runtime: Containerd, Before: "2.2", found: noRoot, Found: "no config_path", Files: edited,
			Step: containerdRestart},
		{Runtime: Containerd, found: legacyMirrors, Found: "registry.mirrors in config.toml", Files: certs,
			Step: "replace registry.mirrors by config_path and restart: systemctl restart containerd"},
		{Runtime: Containerd, found: criDisabled, Found: "the CRI plugin is disabled", Files: certs,
			Step: "only nerdctl reads these files; Kubernetes needs the CRI plugin"},
	}
	for _, k := range []Kind{K3s, RKE2} {
		agent := "/var/lib/rancher/" + string(k) + "/agent/etc/containerd/certs.d/HOST/hosts.toml"
		settings := "/etc/rancher/" + string(k) + "/registries.yaml"
		rows = append(rows,
			Row{Runtime: k, found: notNamed, Found: "registries.yaml does not name the registry",
				Files: []string{agent}, Live: true},
			Row{Runtime: k, found: named, Found: "registries.yaml names the registry",
				Files: []string{settings, agent}, Live: true},
			Row{Runtime: k, found: embedded, Found: "embedded-registry is on", Files: []string{settings, agent},
				Live: true},
		)
	}
	policy := "/etc/containers/registries.conf.d/zz-ferry-client.conf"
	authority := "/etc/containers/certs.d/HOST/ferry-HASH.crt"
	rows = append(rows,
		Row{Runtime: MicroK8s, found: oneRoot, Found: "config_path in the template",
			Files: []string{"/var/snap/microk8s/current/args/certs.d/HOST/hosts.toml"}, Live: true},
		Row{Runtime: MicroK8s, found: noRoot, Found: "no config_path in the template",
			Files: []string{"/var/snap/microk8s/current/args/certs.d/HOST/hosts.toml"},
			Step: `set config_path = "${SNAP_DATA}/args/certs.d" in args/containerd-template.toml ` +
				"and restart: snap restart microk8s.daemon-containerd"},
		Row{Runtime: CRIO, found: reloadsByItself, Found: "auto_reload_registries is on",
			Files: []string{authority, policy}, Live: true},
		Row{Runtime: CRIO, found: noReload, Found: "auto_reload_registries is off", Files: []string{authority, policy},
			Step: "reload, unless only the authority changed: systemctl reload crio",
			Undo: undoFiles(CRIO) + "; then " + crioReload},
		Row{Runtime: Podman, Found: "any", Files: []string{authority, policy}, Live: true},
		Row{Runtime: Docker, Found: "any",
			Files: []string{"/etc/docker/certs.d/HOST/ferry-HASH.crt", "/etc/docker/daemon.json"},
			Step:  "reload, unless only the authority changed: systemctl reload docker",
			Undo:  undoFiles(Docker) + "; if daemon.json changed: " + dockerRestart},
		Row{Runtime: OpenShift, Found: "any", Step: "prints a ConfigMap, image.config and a mirror set: oc apply -f -",
			Undo: "oc delete the objects"},
		Row{Runtime: Talos, Found: "any", Step: "prints a patch: talosctl patch machineconfig --patch @FILE",
			Undo: "remove the documents from the machine configuration"},
	)
	for i := range rows {
		if rows[i].Undo == "" {
			rows[i].Undo = undoFiles(rows[i].Runtime)
		}
	}
	return rows
}

// rowOf returns the row for a runtime in a version with the configuration found. A version that
// is not known counts as the newest.
func rowOf(k Kind, v version, f found) Row {
	for _, r := range Table() {
		if r.Runtime == k && (r.found == f || r.found == anything) && r.covers(v) {
			return r
		}
	}
	panic("noderuntime: the table has no row for " + string(k)) // TestTableHasARowForEverything
}

func (r Row) covers(v version) bool {
	if !v.known() {
		return r.Before == ""
	}
	return (r.From == "" || !v.less(parseVersion(r.From))) && (r.Before == "" || v.less(parseVersion(r.Before)))
}
