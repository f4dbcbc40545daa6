//go:build !windows

package cli

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"
)

// A firstWrite ends a context with the first line that is written to it.
type firstWrite struct {
	bytes.Buffer
	end context.CancelFunc
}

func (w *firstWrite) Write(p []byte) (int, error) {
	w.end()
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
		Getenv: func(k string) string { return vars[k] }})
	if code != 0 || !strings.Contains(out.String(), "as a connected registry") {
		t.Errorf("exit code %d: %s%s", code, out, &log)
	}
	const names = "ACR_PARENT_GATEWAY_ENDPOINT,ACR_REGISTRY_CONNECTION_STRING,ACR_REGISTRY_DATA_VOLUME"
	if !strings.Contains(log.String(), names) || strings.Contains(log.String(), "s3cr3t") {
		t.Errorf("the log does not name the variables alone: %s", &log)
	}
}
