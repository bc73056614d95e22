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
)

// api answers for the node `here` with these fields of its spec, in JSON; every other question with 404.
func api(t *testing.T, spec string) (kubeconfig string, asked *[]*http.Request) {
	t.Helper()
	asked = new([]*http.Request)
	server := httptest.NewServer(http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		*asked = append(*asked, request)
		answer.Header().Set("Content-Type", "application/json")
		if request.URL.Path != "/api/v1/nodes/here" {
			answer.WriteHeader(http.StatusNotFound)
			fmt.Fprint(answer, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404,"message":"no such node"}`)
			return
		}
		fmt.Fprintf(answer, `{"kind":"Node","apiVersion":"v1","metadata":{"name":"here"},"spec":{%s}}`, spec)
	}))
	t.Cleanup(server.Close)
	return configured(t, server.URL), asked
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

func TestPodNetwork(t *testing.T) {
	for _, each := range []struct{ spec, wanted, told string }{
		{`"podCIDR":"10.244.1.0/24","podCIDRs":["10.244.1.0/24"]`, "10.244.1.0/24", ""},
		{`"podCIDR":"10.244.1.7/24"`, "10.244.1.0/24", ""},
		{`"podCIDR":"10.244.1.0/24","podCIDRs":["10.244.1.0/24","fd00::/64"]`, "", "one of IPv4 is supported"},
		{`"podCIDR":"fd00::/64","podCIDRs":["fd00::/64"]`, "", "one of IPv4 is supported"},
		{`"podCIDR":""`, "", `has pod network ""`},
		{`"podCIDR":"10.244.1.0"`, "", "one of IPv4 is supported"},
	} {
		kubeconfig, _ := api(t, each.spec)
		client, err := connect(kubeconfig)
		if err != nil {
			t.Fatal(err)
		}
		found, err := podNetwork(context.Background(), client, "here")
		if each.told == "" && (err != nil || found.String() != each.wanted) {
			t.Errorf("%s: found %v, %v", each.spec, found, err)
		}
		if each.told != "" && (err == nil || !strings.Contains(err.Error(), each.told)) {
			t.Errorf("%s: told %v", each.spec, err)
		}
	}
}

func TestTheClusterIsAskedInProtobufAlone(t *testing.T) {
	kubeconfig, asked := api(t, `"podCIDR":"10.244.1.0/24"`)
	client, err := connect(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := podNetwork(context.Background(), client, "here"); err != nil {
		t.Fatal(err)
	}
	if len(*asked) == 0 {
		t.Fatal("nobody was asked")
	}
	for _, request := range *asked {
		if accepted := request.Header.Get("Accept"); accepted != "application/vnd.kubernetes.protobuf" {
			t.Errorf("asked for %q: an empty list of a policy's rules would arrive as one that allows everything", accepted)
		}
	}
}

func TestWhatItCannotBeginWithoutIsTold(t *testing.T) {
	there, _ := api(t, `"podCIDR":""`)
	for _, each := range []struct{ name, kubeconfig, node, told string }{
		{"no node", there, "", "--hostname-override is not set"},
		{"no such kubeconfig", filepath.Join(t.TempDir(), "none"), "here", "none"},
		{"an API that is away", configured(t, gone(t)), "here", "connection refused"},
		{"a node the cluster does not know", there, "nowhere", "no such node"},
		{"a node without a pod network", there, "here", "has pod network"},
	} {
		t.Run(each.name, func(t *testing.T) {
			err := run(context.Background(), each.kubeconfig, each.node, 100, "127.0.0.1:0")
			if err == nil || !strings.Contains(err.Error(), each.told) {
				t.Errorf("told %v, expected %q", err, each.told)
			}
		})
	}
}

func TestAQueueNobodyOpensIsTold(t *testing.T) {
	ended, end := context.WithCancel(context.Background())
	end()
	err := listened(ended, 65535)
	if err == nil || !(strings.Contains(err.Error(), "queue 65535 was not opened") || strings.Contains(err.Error(), "no nfqueue")) {
		t.Errorf("told %v", err)
	}
}
