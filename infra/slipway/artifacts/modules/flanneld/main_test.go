package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flannel-io/flannel/pkg/subnet"
)

// api answers for the node `here` with these addresses, in JSON; every other question with 404.
func api(t *testing.T, addresses string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		answer.Header().Set("Content-Type", "application/json")
		if request.URL.Path != "/api/v1/nodes/here" {
			answer.WriteHeader(http.StatusNotFound)
			fmt.Fprint(answer, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404,"message":"no such node"}`)
			return
		}
		fmt.Fprintf(answer, `{"kind":"Node","apiVersion":"v1","metadata":{"name":"here"},"status":{"addresses":[%s]}}`, addresses)
	}))
	t.Cleanup(server.Close)
	return configured(t, server.URL)
}

func configured(t *testing.T, server string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"c",
"clusters":[{"name":"c","cluster":{"server":%q}}],"contexts":[{"name":"c","context":{"cluster":"c","user":"u"}}],"users":[{"name":"u","user":{}}]}`, server)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// gone is where nobody listens any more.
func gone(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	return server.URL
}

// withIptables puts a program of that name on PATH, which is never run.
func withIptables(t *testing.T) {
	t.Helper()
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "iptables-restore"), []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", folder)
}

func told(t *testing.T, err error, words string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), words) {
		t.Errorf("told %v, expected %q", err, words)
	}
}

func TestTheNodesAddressIsTheOneTheClusterKnows(t *testing.T) {
	const name, outside, inside = `{"type":"Hostname","address":"here"}`, `{"type":"ExternalIP","address":"192.0.2.1"}`, `{"type":"InternalIP","address":"10.77.0.2"}`
	found, err := internalIP(context.Background(), api(t, name+","+outside+","+inside), "here")
	if err != nil || found != "10.77.0.2" {
		t.Errorf("found %q, %v", found, err)
	}
	_, err = internalIP(context.Background(), api(t, name+","+outside), "here")
	told(t, err, "has no InternalIP, name the interface with --iface")
	_, err = internalIP(context.Background(), api(t, inside), "nowhere")
	told(t, err, "no such node")
}

func TestWhatItCannotBeginWithoutIsTold(t *testing.T) {
	ctx := context.Background()
	withIptables(t)
	t.Setenv("NODE_NAME", "")
	told(t, run(ctx, api(t, ""), "", "none"), "NODE_NAME is not set")
	t.Setenv("NODE_NAME", "here")
	told(t, run(ctx, filepath.Join(t.TempDir(), "absent"), "", "none"), "absent")
	told(t, run(ctx, configured(t, gone(t)), "", "none"), "connection refused")
	told(t, run(ctx, api(t, ""), "", "none"), "has no InternalIP")
	told(t, run(ctx, api(t, `{"type":"InternalIP","address":"10.77.0.2"}`), "", filepath.Join(t.TempDir(), "absent.json")), "absent.json")
}

func TestWithoutIptablesItDoesNotBegin(t *testing.T) {
	t.Setenv("NODE_NAME", "here")
	t.Setenv("PATH", t.TempDir())
	told(t, run(context.Background(), api(t, ""), "", "none"), "iptables-restore")
}

func TestWhatIsNotBuiltInIsRefused(t *testing.T) {
	for _, conf := range []*subnet.Config{{EnableIPv6: true}, {EnableNFTables: true}} {
		_, err := register(context.Background(), nil, conf, "lo")
		told(t, err, "are not supported")
	}
	_, err := register(context.Background(), nil, &subnet.Config{BackendType: "vxlan"}, "no-such-interface")
	told(t, err, "no-such-interface")
}
