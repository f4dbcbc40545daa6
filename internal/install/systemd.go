package install

import (
	_ "embed"
	"errors"
	"fmt"
	"path"
	"strings"
)

// Unit is the unit of the Debian package. It runs /usr/bin/ferry.
//
//go:embed ferry.service
var Unit string

// Systemd plans a service of systemd on a host without the Debian package. The connection string
// is for root only; systemd passes a copy to the service.
func Systemd(o Options) (Plan, error) {
	if o.Port == 0 {
		o.Port = imagePort
	}
	if o.DataDir == "" {
		o.DataDir = "/var/lib/ferry"
	}
	state, ok := strings.CutPrefix(o.DataDir, "/var/lib/")
	if !ok {
		return Plan{}, errors.New("systemd gives a service directories below /var/lib only; " +
			"mount the disk there, or link to it from there")
	}
	if !plainPath.MatchString(o.Program) {
		return Plan{}, fmt.Errorf("path of ferry %.80q: want an absolute path of letters, digits, '.', '_' and '-'",
			o.Program)
	}
	program := o.Program
	if !readableByServices(program) {
		program = "/usr/local/bin/ferry"
	}
	trust := ""
	if o.ParentCA != "" {
		trust = "Environment=SSL_CERT_FILE=/etc/ferry/" + caFile + "\n"
	}
	unit := strings.NewReplacer(
		"ExecStart=/usr/bin/ferry serve --config /etc/ferry/ferry.yaml --data-dir /var/lib/ferry\n",
		"ExecStart="+program+" serve --config /etc/ferry/ferry.yaml --data-dir "+o.DataDir+" \\\n"+
			"    --connection-string-file ${CREDENTIALS_DIRECTORY}/"+connectionFile+"\n"+
			"# The file is for root only. The service gets a copy when it starts.\n"+
			"LoadCredential="+connectionFile+":/etc/ferry/"+connectionFile+"\n"+trust,
		"owns /var/lib/ferry.", "owns "+o.DataDir+".",
		"StateDirectory=ferry\n", "StateDirectory="+state+"\n",
	).Replace(Unit)
	if o.Port < 1024 {
		unit = allowLowPorts(unit)
	}
	var settings strings.Builder
	fmt.Fprintf(&settings, "# The connected registry %s. Each flag of ferry serve is a key.\nlisten: \":%d\"\n",
		o.Connection.Name, o.Port)
	for _, s := range o.settings() {
		fmt.Fprintf(&settings, "%s: %q\n", s.name, s.value)
	}
	p := Plan{Files: append([]File{
		{Name: "ferry.service", Text: unit},
		{Name: "ferry.yaml", Text: settings.String()},
		o.connection(0),
	}, o.ca()...)}
	p.Next = o.enter()
	if program != o.Program {
		p.Next = append(p.Next, fmt.Sprintf("sudo install -m 0755 %s %s", o.Program, program))
	}
	for _, f := range o.ca() {
		p.Next = append(p.Next, fmt.Sprintf("sudo install -D -m 0644 %s /etc/ferry/%[1]s", f.Name))
	}
	p.Next = append(p.Next,
		"sudo install -D -m 0644 ferry.yaml /etc/ferry/ferry.yaml",
		"sudo install -D -m 0600 "+connectionFile+" /etc/ferry/"+connectionFile,
		"sudo install -D -m 0644 ferry.service /etc/systemd/system/ferry.service",
		"rm "+connectionFile,
		"sudo systemctl daemon-reload",
		"sudo systemctl enable --now ferry",
		"sudo ferry sync status --data-dir "+o.DataDir)
	p.Next = append(p.Next, o.clients("auto", "HOST", o.Port)...)
	return p, nil
}

// readableByServices reports whether a service with ProtectHome and PrivateTmp can run a program.
func readableByServices(program string) bool {
	for _, dir := range []string{"/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/"} {
		if strings.HasPrefix(path.Clean(program), dir) {
			return false
		}
	}
	return true
}

// allowLowPorts gives the service of a unit the right to listen at a port below 1024.
func allowLowPorts(unit string) string {
	const capability = "CAP_NET_BIND_SERVICE"
	before, rest, _ := strings.Cut(unit, "# A port below 1024 needs")
	_, after, _ := strings.Cut(rest, "PrivateUsers=no\n")
	return before + "# It listens at a port below 1024.\n" + strings.NewReplacer(
		"CapabilityBoundingSet=\n", "CapabilityBoundingSet="+capability+"\n",
		"AmbientCapabilities=\n", "AmbientCapabilities="+capability+"\n",
		"PrivateUsers=yes\n", "PrivateUsers=no\n",
	).Replace(after)
}
