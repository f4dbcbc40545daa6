package conformance

import (
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ferry/test/daemon"
	"ferry/test/instance"
)

// versions are the versions of the specification to test, each with the suite's default
// settings. "dev" tests features that 1.1 does not require: cancelled uploads, digest
// headers, and tags as parameters of a push.
var versions = []string{"1.1", "dev"}

// minPassed is how many tests must pass. A run without any test would also succeed.
const minPassed = 600

// maySkip has the tests that the suite may skip, and the reasons.
var maySkip = map[string]string{
	"mount anonymous/blob-mount-anonymous": "a registry may require the source repository, " +
		"because the client must be allowed to read it",
}

// mayDisable has the tests that the suite disables by default, by version.
var mayDisable = map[string][]string{
	"1.1": {"post cancel/blob-post-cancel"},
}

// Run runs the suite at a registry, as a user who may do everything. It is skipped if the suite is
// not installed, except in CI, where it fails.
func Run(t *testing.T, l instance.Login) {
	suite := daemon.Program(t, "conformance", "test/tools.sh conformance")
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			check(t, version, run(t, suite, l, version))
		})
	}
}

// A report is the relevant part of the suite's JUnit report.
type report struct {
	Tests    int `xml:"tests,attr"`
	Failures int `xml:"failures,attr"`
	Errors   int `xml:"errors,attr"`
	Suites   []struct {
		Cases []struct {
			Name   string `xml:"name,attr"`
			Status string `xml:"status,attr"`
			Says   string `xml:"system-out"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

// run runs the suite as a user who must log in, with the address of the registry and the
// login as the only settings, and returns its report.
func run(t *testing.T, suite string, l instance.Login, version string) report {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command(suite)
	cmd.Dir = dir // the suite reads a configuration from its working directory
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "OCI_") }),
		"OCI_VERSION="+version, "OCI_REGISTRY="+l.Host, "OCI_TLS=disabled", "OCI_RESULTS_DIR="+dir,
		"OCI_USERNAME="+l.User, "OCI_PASSWORD="+l.Password,
		"OCI_REPO1=conformance/"+version+"/one", "OCI_REPO2=conformance/"+version+"/two")
	out, err := cmd.CombinedOutput()
	_, summary, _ := strings.Cut(string(out), "OCI Conformance Result:")
	t.Logf("result:%s", summary)
	if err != nil {
		t.Errorf("the suite ended with %v", err)
	}
	// After some internal failures, the suite exits with 0 and without a report.
	text, err := os.ReadFile(filepath.Join(dir, "junit.xml"))
	if err != nil {
		t.Fatalf("the suite wrote no report: %v\n%s", err, out)
	}
	var r report
	if err := xml.Unmarshal(text, &r); err != nil {
		t.Fatalf("the suite's report: %v", err)
	}
	return r
}

// check fails the test unless all tests passed, except those that may be left out.
func check(t *testing.T, version string, r report) {
	t.Helper()
	if r.Failures != 0 || r.Errors != 0 {
		t.Errorf("%d failures and %d errors", r.Failures, r.Errors)
	}
	passed := 0
	for _, suite := range r.Suites {
		for _, c := range suite.Cases {
			switch {
			case c.Status == "passed":
				passed++
			case c.Status != "skipped" || !mayBeLeftOut(version, c.Name):
				t.Errorf("%s: %s: %s", c.Name, c.Status, c.Says)
			}
		}
	}
	if passed < minPassed {
		t.Errorf("%d of %d tests passed, want at least %d", passed, r.Tests, minPassed)
	}
}

func mayBeLeftOut(version, name string) bool {
	for test := range maySkip {
		if strings.HasSuffix(name, "/"+test) {
			return true
		}
	}
	return slices.ContainsFunc(mayDisable[version], func(test string) bool { return strings.HasSuffix(name, "/"+test) })
}
