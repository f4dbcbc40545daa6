package wire_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/wire"
)

const plainString = "ConnectedRegistryName=ship1;SyncTokenName=ship1-sync;SyncTokenPassword=s3cr3t=/+==;" +
	"ParentGatewayEndpoint=root.example:5000;ParentEndpointProtocol=https"

var plainConnection = wire.ConnectionString{
	Name: "ship1", Token: "ship1-sync", Password: "s3cr3t=/+==", Endpoint: "root.example:5000", Protocol: "https",
}

func TestConnectionStringIsReadFromQuotesAndWhiteSpace(t *testing.T) {
	for name, text := range map[string]string{
		"plain":                  plainString,
		"byte-order mark":        "\ufeff" + plainString,
		"line end":               plainString + "\n",
		"line end of Windows":    "\ufeff" + plainString + "\r\n",
		"double quotes":          `"` + plainString + `"`,
		"single quotes":          "'" + plainString + "'\n",
		"mark within quotes":     "\"\ufeff" + plainString + "\"",
		"quotes within a mark":   "\ufeff \"" + plainString + "\" \r\n",
		"white space":            "\t " + plainString + "  ",
		"semicolon at the end":   plainString + ";",
		"broken lines":           strings.ReplaceAll(plainString, ";", ";\r\n"),
		"spaces between fields":  strings.ReplaceAll(plainString, ";", " ; "),
		"other case of keys":     strings.Replace(plainString, "SyncTokenName", "synctokenname", 1),
		"other case of protocol": strings.Replace(plainString, "https", "HTTPS", 1),
		"other order": "ParentEndpointProtocol=https;" + strings.TrimSuffix(plainString,
			";ParentEndpointProtocol=https"),
		"wrapped in its password": strings.Replace(plainString, "s3cr", "s3\ncr", 1),
	} {
		c, err := wire.ParseConnectionString(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(plainConnection, c); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if s := plainConnection.Secret(); s != plainString {
		t.Errorf("Secret = %s, want %s", s, plainString)
	}
}

func TestBadConnectionStringErrorsHaveNoPassword(t *testing.T) {
	replace := func(old, new string) string { return strings.Replace(plainString, old, new, 1) }
	for _, test := range []struct{ text, want string }{
		{"", "ConnectedRegistryName is missing"},
		{"s3cr3t", "no '='"},
		{replace("SyncTokenPassword=s3cr3t=/+==", "SyncTokenPassword="), "SyncTokenPassword is missing"},
		{replace("ParentGatewayEndpoint=root.example:5000;", ""), "ParentGatewayEndpoint is missing"},
		{replace("SyncTokenName", "TokenName"), "unknown key"},
		{replace("SyncTokenPassword=", "s3cr3t="), "unknown key"},
		{plainString + ";SyncTokenPassword=s3cr3t", "there twice"},
		{replace("https", "ftp"), "neither http nor https"},
		{replace("root.example:5000", "https://root.example"), "no host"},
		{replace("root.example:5000", "root.example/a/../b"), "no host"},
		{replace("root.example:5000", "root.example/path/"), "no host"},
		{replace("root.example:5000", "root.example/a%2fb"), "no host"},
		{replace("root.example:5000", "root.example/a?b"), "no host"},
		{replace("root.example:5000", "/path"), "no host"},
		{replace("root.example:5000", "user:s3cr3t@root.example"), "no host"},
		{replace("root.example:5000", "root.example:"), "empty port"},
		{replace("root.example:5000", ":5000"), "no host"},
		{replace("root.example:5000", "<parent gateway endpoint>"), "ParentGatewayEndpoint is a placeholder"},
		{replace("s3cr3t=/+==", "<use --generate-password to generate a new password>"),
			"SyncTokenPassword is a placeholder"},
		{replace("s3cr3t=/+==", "<use --generate-password"), "SyncTokenPassword is a placeholder"},
		{replace("s3cr3t=/+==", "use --generate-password to generate a new password"),
			"SyncTokenPassword is a placeholder"},
		{plainString + ";JoinToken=s3cr3t", "exclude each other"},
		{replace("SyncTokenPassword=s3cr3t=/+==", "JoinToken="), "SyncTokenPassword is missing"},
		{replace("SyncTokenPassword=s3cr3t=/+==", "JoinToken=<s3cr3t>"), "JoinToken is a placeholder"},
		{replace("root.example:5000", "root.example:5000,"), "no host"},
		{replace("root.example:5000", "root.example,https://s3cr3t"), "no host"},
		{replace("root.example:5000", "a,b,c,d,e,f,g,h,i"), "more than 8"},
		{replace("=ship1;", "=../s3cr3t;"), "no name"},
		{replace("ship1-sync", "a:b"), "colon"},
		{plainString + strings.Repeat("s3cr3t", 1000), "longer than"},
	} {
		_, err := wire.ParseConnectionString(test.text)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%.60s: %v, want %q", test.text, err, test.want)
		}
		if err != nil && strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%.60s: the error has the password: %v", test.text, err)
		}
	}
}

func TestPlaceholderHasItsOwnHint(t *testing.T) {
	for value, want := range map[string]string{
		"root.example:5000": "host:port", "s3cr3t=/+==": "--generate-password",
	} {
		_, err := wire.ParseConnectionString(strings.Replace(plainString, value, "<a word>", 1))
		var h interface{ Hint() string }
		if !errors.As(err, &h) || !strings.Contains(h.Hint(), want) ||
			(want == "host:port") == strings.Contains(h.Hint(), "again") {
			t.Errorf("%v", err)
		}
	}
}

func TestPrintedConnectionStringHasNoPassword(t *testing.T) {
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		join := plainConnection
		join.Password, join.JoinToken = "", plainConnection.Password
		for _, v := range []any{plainConnection, &plainConnection, join} {
			if s := fmt.Sprintf(format, v); strings.Contains(s, "s3cr3t") {
				t.Errorf("%s shows the password: %s", format, s)
			}
		}
	}
}

func FuzzParseConnectionString(f *testing.F) {
	f.Add(plainString)
	f.Add("\ufeff\"" + plainString + "\"\r\n")
	f.Add("SyncTokenPassword=;=;")
	f.Add(strings.Replace(plainString, "root.example:5000", "root.example:5000, 10.0.0.1/a,[::1]:80", 1))
	f.Add(strings.Replace(plainString, "SyncTokenPassword", "JoinToken", 1))
	f.Fuzz(func(t *testing.T, text string) {
		c, err := wire.ParseConnectionString(text)
		if err != nil {
			return
		}
		again, err := wire.ParseConnectionString(c.Secret())
		if err != nil || again != c {
			t.Errorf("%q came back as %q, %v", c.Secret(), again.Secret(), err)
		}
		if (c.Password == "") == (c.JoinToken == "") {
			t.Errorf("%q has both a password and a join token, or neither", c.Secret())
		}
		for _, e := range c.Endpoints() {
			if err := wire.CheckEndpoint(e); err != nil {
				t.Errorf("endpoint %q %v", e, err)
			}
		}
	})
}

func TestEndpointMayHaveAPath(t *testing.T) {
	text := strings.Replace(plainString, "root.example:5000", "root.example:5000/a/ferry", 1)
	c, err := wire.ParseConnectionString(text)
	if err != nil || c.URL() != "https://root.example:5000/a/ferry" || c.Host() != "root.example:5000" {
		t.Errorf("%v, %v", c, err)
	}
}

func TestConnectionStringHasSeveralEndpoints(t *testing.T) {
	text := strings.Replace(plainString, "root.example:5000", "root.example:5000, 10.0.0.1:80/ferry", 1)
	c, err := wire.ParseConnectionString(text)
	want := []string{"root.example:5000", "10.0.0.1:80/ferry"}
	if diff := cmp.Diff(want, c.Endpoints()); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	if c.Host() != want[0] || c.URL() != "https://"+want[0] || c.At(want[1]).Host() != "10.0.0.1:80" {
		t.Errorf("%v", c)
	}
}

func TestJoinTokenReplacesThePassword(t *testing.T) {
	text := strings.Replace(plainString, "SyncTokenPassword", "JoinToken", 1)
	c, err := wire.ParseConnectionString(text)
	if err != nil || c.JoinToken != "s3cr3t=/+==" || c.Password != "" || c.Secret() != text {
		t.Errorf("%q %v", c.Secret(), err)
	}
}

func TestOtherEndpointReplacesAPlaceholder(t *testing.T) {
	text := strings.Replace(plainString, "root.example:5000", "<parent gateway endpoint>", 1)
	c, err := wire.ParseConnectionStringFor(text, "above:8000")
	if err != nil || c.Endpoint != "above:8000" {
		t.Errorf("%v, %v", c, err)
	}
	if _, err := wire.ParseConnectionStringFor(text, "http://above"); err == nil {
		t.Error("an endpoint with a scheme is accepted")
	}
}
