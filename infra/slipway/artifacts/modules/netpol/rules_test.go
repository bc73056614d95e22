package main

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"
	"k8s.io/client-go/tools/cache"
)

var network = netip.MustParsePrefix("10.244.1.0/24")

// pod makes a running pod of this node, namespace a, that is labelled app=x.
func pod(name string, changes func(*corev1.Pod), addresses ...string) *corev1.Pod {
	out := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "a", Labels: map[string]string{"app": "x"}},
		Spec:       corev1.PodSpec{NodeName: "here"},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning},
	}
	for _, address := range addresses {
		out.Status.PodIPs = append(out.Status.PodIPs, corev1.PodIP{IP: address})
	}
	if changes != nil {
		changes(out)
	}
	return out
}

func policy(namespace string, selector metav1.LabelSelector) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: namespace},
		Spec:       networkingv1.NetworkPolicySpec{PodSelector: selector},
	}
}

// guarding is a guard that knows these pods and policies.
func guarding(t *testing.T, objects ...any) *guard {
	t.Helper()
	namespaced := cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc}
	pods := cache.NewIndexer(cache.MetaNamespaceKeyFunc, namespaced)
	policies := cache.NewIndexer(cache.MetaNamespaceKeyFunc, namespaced)
	for _, object := range objects {
		into := pods
		if _, is := object.(*networkingv1.NetworkPolicy); is {
			into = policies
		}
		if err := into.Add(object); err != nil {
			t.Fatal(err)
		}
	}
	return &guard{
		node: "here", network: network, queue: 100, changed: make(chan struct{}, 1),
		pods: corelisters.NewPodLister(pods), policies: networkinglisters.NewNetworkPolicyLister(policies),
	}
}

func TestWhoIsFree(t *testing.T) {
	app := metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}}
	wrong := metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: "Sounds"}}}
	for _, each := range []struct {
		name    string
		objects []any
		free    string
	}{
		{"nobody", nil, ""},
		{"without policies, in order", []any{pod("1", nil, "10.244.1.10"), pod("2", nil, "10.244.1.9")}, "10.244.1.9 10.244.1.10"},
		{"selected by a label", []any{pod("1", nil, "10.244.1.9"), policy("a", app)}, ""},
		{"selected with all of its namespace", []any{pod("1", nil, "10.244.1.9"), policy("a", metav1.LabelSelector{})}, ""},
		{"in another namespace than the policy", []any{pod("1", nil, "10.244.1.9"), policy("b", app)}, "10.244.1.9"},
		{"with other labels", []any{pod("1", func(p *corev1.Pod) { p.Labels = nil }, "10.244.1.9"), policy("a", app)}, "10.244.1.9"},
		{"by a selector nobody understands", []any{pod("1", nil, "10.244.1.9"), policy("a", wrong)}, ""},
		{"on another node", []any{pod("1", func(p *corev1.Pod) { p.Spec.NodeName = "there" }, "10.244.1.9")}, ""},
		{"with the node's own address", []any{pod("1", func(p *corev1.Pod) { p.Spec.HostNetwork = true }, "10.244.1.9")}, ""},
		{"that has ended", []any{pod("1", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }, "10.244.1.9")}, ""},
		{"that has failed", []any{pod("1", func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }, "10.244.1.9")}, ""},
		{"without an address yet", []any{pod("1", nil)}, ""},
		{"elsewhere, or of IPv6, or no address", []any{pod("1", nil, "10.244.2.9", "fd00::9", "", "10.244.1.9")}, "10.244.1.9"},
		{
			"whose address a guarded pod has too", []any{
				pod("1", func(p *corev1.Pod) { p.Labels = nil }, "10.244.1.9"), pod("2", nil, "10.244.1.9"), policy("a", app),
			}, "",
		},
		{"two of one address", []any{pod("1", nil, "10.244.1.9"), pod("2", nil, "10.244.1.9")}, "10.244.1.9"},
		{
			"whose address one that ended had", []any{
				pod("1", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }, "10.244.1.9"),
				pod("2", func(p *corev1.Pod) { p.Labels = nil }, "10.244.1.9"), policy("a", app),
			}, "10.244.1.9",
		},
	} {
		t.Run(each.name, func(t *testing.T) {
			found, err := guarding(t, each.objects...).free()
			if err != nil {
				t.Fatal(err)
			}
			var told []string
			for _, address := range found {
				told = append(told, address.String())
			}
			if got := strings.Join(told, " "); got != each.free {
				t.Errorf("free are %q, expected %q", got, each.free)
			}
		})
	}
}

func TestRulesQueueWhateverIsNotKnownToBeFree(t *testing.T) {
	const wanted = `*mangle
:SLIPWAY-NETPOL - [0:0]
:SLIPWAY-NETPOL-FROM - [0:0]
:SLIPWAY-NETPOL-TO - [0:0]
-A SLIPWAY-NETPOL -i lo -j RETURN
-A SLIPWAY-NETPOL -s 10.244.1.0/24 -j SLIPWAY-NETPOL-FROM
-A SLIPWAY-NETPOL-FROM -s 10.244.1.0/32 -j RETURN
-A SLIPWAY-NETPOL-FROM -s 10.244.1.1/32 -j RETURN
-A SLIPWAY-NETPOL-FROM -s 10.244.1.9/32 -j RETURN
-A SLIPWAY-NETPOL-FROM -j NFQUEUE --queue-num 7
-A SLIPWAY-NETPOL -d 10.244.1.0/24 -j SLIPWAY-NETPOL-TO
-A SLIPWAY-NETPOL-TO -d 10.244.1.0/32 -j RETURN
-A SLIPWAY-NETPOL-TO -d 10.244.1.1/32 -j RETURN
-A SLIPWAY-NETPOL-TO -d 10.244.1.9/32 -j RETURN
-A SLIPWAY-NETPOL-TO -j NFQUEUE --queue-num 7
COMMIT
`
	if got := rules(network, []netip.Addr{netip.MustParseAddr("10.244.1.9")}, 7); got != wanted {
		t.Errorf("rules are\n%s", got)
	}
}

// iptablesSays puts programs on PATH that note their words and input, and fail when a file of their name with
// .fails is there. Gives that folder.
func iptablesSays(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	script := `#!/bin/sh
echo "${0##*/} $*" >>"` + folder + `/said"
case "$*" in *--noflush*) cat >>"` + folder + `/said" ;; esac
case "$*" in *-C*) test -e "` + folder + `/there"; exit ;; esac
if test -e "$0.fails"; then echo "no chain by that name" >&2; exit 1; fi
`
	for _, name := range []string{"iptables-nft", "iptables-nft-restore"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", folder+":/usr/bin:/bin")
	return folder
}

func said(t *testing.T, folder string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, "said"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(text)
}

func touch(t *testing.T, folder, name string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(folder, name), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestSetPutsTheRulesBeforeWhatLeadsToThemAndOnlyOnce(t *testing.T) {
	folder := iptablesSays(t)
	guard := guarding(t, pod("1", nil, "10.244.1.9"))
	if err := guard.set(); err != nil {
		t.Fatal(err)
	}
	const led = " -m conntrack ! --ctstate RELATED,ESTABLISHED -j SLIPWAY-NETPOL\n"
	wanted := "iptables-nft-restore --wait 5 --noflush\n" + rules(network, []netip.Addr{netip.MustParseAddr("10.244.1.9")}, 100)
	for _, hook := range []string{"FORWARD", "INPUT"} {
		wanted += "iptables-nft --wait 5 --table mangle -C " + hook + led
		wanted += "iptables-nft --wait 5 --table mangle -I " + hook + led
	}
	if got := said(t, folder); got != wanted {
		t.Errorf("iptables was told\n%s\nexpected\n%s", got, wanted)
	}
	if err := guard.set(); err != nil || said(t, folder) != wanted {
		t.Errorf("the same rules were set again (%v)", err)
	}
	touch(t, folder, "there") // what somebody flushed was of the chains, not of the hooks
	guard.last = ""
	if err := guard.set(); err != nil || strings.Count(said(t, folder), " -I ") != 2 {
		t.Errorf("a hook that leads there already was changed (%v)", err)
	}
}

func TestWhatCouldNotBeSetIsToldAndTriedAgain(t *testing.T) {
	folder := iptablesSays(t)
	touch(t, folder, "iptables-nft-restore.fails")
	guard := guarding(t)
	err := guard.set()
	if err == nil || !strings.Contains(err.Error(), "no chain by that name") || guard.last != "" {
		t.Fatalf("told %v, and remembered %q", err, guard.last)
	}
	if strings.Contains(said(t, folder), "-I") {
		t.Error("packets were led to chains that could not be made")
	}
	if err := os.Remove(filepath.Join(folder, "iptables-nft-restore.fails")); err != nil {
		t.Fatal(err)
	}
	touch(t, folder, "iptables-nft.fails")
	if err := guard.set(); err == nil || guard.last != "" {
		t.Errorf("rules nobody leads to count as set (%v)", err)
	}
}

func TestWithoutIptablesItGivesUp(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	guard := guarding(t)
	told := make(chan error)
	go func() { told <- guard.follow(context.Background()) }()
	for {
		select {
		case guard.changed <- struct{}{}:
		case err := <-told:
			if err == nil || !strings.Contains(err.Error(), "iptables-nft-restore") {
				t.Errorf("told %v", err)
			}
			return
		}
	}
}

func TestFollowEndsWithItsContext(t *testing.T) {
	ended, end := context.WithCancel(context.Background())
	end()
	if err := guarding(t).follow(ended); err != context.Canceled {
		t.Errorf("told %v", err)
	}
}
