//go:build !windows

package cli

import (
	"bytes"
	"context"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A firstWrite calls end with the first text that is written to it.
type firstWrite struct {
	bytes.Buffer
	end func()
}

func (w *firstWrite) Write(p []byte) (int, error) {
	if w.Len() == 0 {
		w.end()
	}
	return w.Buffer.Write(p)
}

func TestDeploymentOfTheReferenceStarts(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	vars := map[string]string{
		"ACR_REGISTRY_CONNECTION_STRING": "ConnectedRegistryName=ship1;SyncTokenName=ship1;SyncTokenPassword=s3cr3t;" +
			"ParentGatewayEndpoint=<parent gateway endpoint>;ParentEndpointProtocol=http",
		"ACR_PARENT_GATEWAY_ENDPOINT": "$IOTEDGE_PARENTHOSTNAME", "IOTEDGE_PARENTHOSTNAME": "127.0.0.1:1",
		"ACR_REGISTRY_DATA_VOLUME": t.TempDir(), "ACR_REGISTRY_CERTIFICATE_VOLUME": t.TempDir(),
		"FERRY_LISTEN": "127.0.0.1:0",
	}
	out := &firstWrite{end: cancel}
	var log bytes.Buffer
	code := Run(ctx, []string{"serve"}, &Env{Stdin: strings.NewReader(""), Stdout: out, Stderr: &log,
		LookupEnv: Variables(vars)})
	if code != 0 || !strings.Contains(out.String(), "as a connected registry") {
		t.Errorf("exit code %d: %s%s", code, out, &log)
	}
	const names = "ACR_PARENT_GATEWAY_ENDPOINT,ACR_REGISTRY_CONNECTION_STRING,ACR_REGISTRY_DATA_VOLUME"
	if !strings.Contains(log.String(), names) || strings.Contains(log.String(), "s3cr3t") {
		t.Errorf("the log does not name the variables alone: %s", &log)
	}
}

func TestHangupReloadsServeAndEndsOtherCommands(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	hangup := make(chan os.Signal, 1)
	out := &firstWrite{end: func() { hangup <- syscall.SIGHUP }}
	log := &endsWith{text: "settings were read again", end: cancel}
	code := Run(ctx, []string{"serve", "--data-dir", t.TempDir(), "--listen", "127.0.0.1:0"}, &Env{
		Stdin: strings.NewReader(""), Stdout: out, Stderr: log, LookupEnv: Variables(nil),
		Hangup: hangup,
	})
	if code != 0 || !strings.Contains(log.String(), log.text) {
		t.Errorf("exit code %d: %s", code, log)
	}

	env := &Env{Hangup: hangup}
	other, stop := env.watchHangups(t.Context())
	defer stop()
	hangup <- syscall.SIGHUP
	<-other.Done()

	env = &Env{Hangup: hangup, IgnoreHangup: true}
	other, stop = env.watchHangups(t.Context())
	defer stop()
	hangup <- syscall.SIGHUP
	hangup <- syscall.SIGHUP // the first was handled when there is room for this one
	if other.Err() != nil {
		t.Error("a hangup that nohup ignores ended a command")
	}
}

// An endsWith ends a context when a text is written to it.
type endsWith struct {
	bytes.Buffer
	text string
	end  context.CancelFunc
}

func (w *endsWith) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(w.text)) {
		w.end()
	}
	return w.Buffer.Write(p)
}
