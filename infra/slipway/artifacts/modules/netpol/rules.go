package main

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	corelisters "k8s.io/client-go/listers/core/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

const (
	all      = "SLIPWAY-NETPOL" // what is no part of a known connection comes here
	outgoing = "SLIPWAY-NETPOL-FROM"
	incoming = "SLIPWAY-NETPOL-TO"
	resync   = 10 * time.Second // how long rules that someone flushed stay away
	attempts = 3                // in a row may fail before the program gives up
)

// Rules for mangle, which comes before the filter table's and holds nobody else's verdicts: INPUT for a pod that
// turns to its own node, FORWARD for all else.
var hooks = []string{"FORWARD", "INPUT"}

// guard keeps the rules of this node in step with its pods and their policies.
type guard struct {
	node     string
	network  netip.Prefix // of this node's pods
	queue    int
	pods     corelisters.PodLister
	policies networkinglisters.NetworkPolicyLister
	changed  chan struct{} // holds one: many changes are followed at once
	last     string        // the rules as they were set last
}

func newGuard(factory informers.SharedInformerFactory, node string, network netip.Prefix, queue int) *guard {
	pods, policies := factory.Core().V1().Pods(), factory.Networking().V1().NetworkPolicies()
	out := &guard{node, network, queue, pods.Lister(), policies.Lister(), make(chan struct{}, 1), ""}
	notify := func(any) {
		select {
		case out.changed <- struct{}{}:
		default:
		}
	}
	follow := cache.ResourceEventHandlerFuncs{
		AddFunc: notify, UpdateFunc: func(_, now any) { notify(now) }, DeleteFunc: notify,
	}
	for _, informer := range []cache.SharedIndexInformer{pods.Informer(), policies.Informer()} {
		_, _ = informer.AddEventHandler(follow) // fails only for an informer that was stopped
	}
	return out
}

// follow sets the rules anew after every change and now and then. Returns when that fails again and again.
func (g *guard) follow(ctx context.Context) error {
	for failures := 0; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-g.changed:
		case <-time.After(resync):
			g.last = "" // somebody may have flushed them
		}
		err := g.set()
		if err == nil {
			failures = 0
			continue
		}
		if failures++; failures >= attempts {
			return err
		}
		klog.ErrorS(err, "the rules could not be set, trying again")
		time.Sleep(time.Second)
		g.last = ""
	}
}

// set makes the kernel queue what must be judged; one transaction, so no packet meets half of it.
func (g *guard) set() error {
	free, err := g.free()
	if err != nil {
		return err
	}
	wanted := rules(g.network, free, g.queue)
	if wanted == g.last {
		return nil
	}
	if err := restore(wanted); err != nil {
		return err
	}
	for _, hook := range hooks {
		if err := lead(hook); err != nil {
			return err
		}
	}
	g.last = wanted
	return nil
}

// free gives the addresses of this node's pods that no policy selects, sorted.
func (g *guard) free() ([]netip.Addr, error) {
	pods, err := g.pods.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	var out, guarded []netip.Addr
	for _, pod := range pods {
		if pod.Spec.NodeName != g.node || pod.Spec.HostNetwork || over(pod) {
			continue
		}
		selected, err := g.selected(pod)
		if err != nil {
			return nil, err
		}
		for _, each := range pod.Status.PodIPs {
			address, err := netip.ParseAddr(each.IP)
			if err != nil || !g.network.Contains(address) {
				continue
			}
			if selected {
				guarded = append(guarded, address)
			} else {
				out = append(out, address)
			}
		}
	}
	out = slices.DeleteFunc(out, func(address netip.Addr) bool { return slices.Contains(guarded, address) })
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out), nil
}

// over says whether a pod has ended, and with it the claim to its address.
func over(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// selected says whether any policy is about the pod, whichever direction.
func (g *guard) selected(pod *corev1.Pod) (bool, error) {
	policies, err := g.policies.NetworkPolicies(pod.Namespace).List(labels.Everything())
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(policies, func(policy *networkingv1.NetworkPolicy) bool {
		selector, err := metav1.LabelSelectorAsSelector(&policy.Spec.PodSelector)
		return err != nil || selector.Matches(labels.Set(pod.Labels)) // in doubt it is guarded
	}), nil
}

// rules is the text for iptables-restore. Whatever lies in the pods' network and is not known to be free is
// queued: an address that the cluster has not told of yet may be that of a pod a policy is about.
func rules(network netip.Prefix, free []netip.Addr, queue int) string {
	node := network.Addr() // the overlay's device has the network's first address, the bridge the next
	free = append([]netip.Addr{node, node.Next()}, free...)
	var out strings.Builder
	fmt.Fprintln(&out, "*mangle")
	for _, chain := range []string{all, outgoing, incoming} {
		fmt.Fprintf(&out, ":%s - [0:0]\n", chain)
	}
	fmt.Fprintf(&out, "-A %s -i lo -j RETURN\n", all)
	for _, way := range []struct{ flag, chain string }{{"-s", outgoing}, {"-d", incoming}} {
		fmt.Fprintf(&out, "-A %s %s %s -j %s\n", all, way.flag, network, way.chain)
		for _, address := range free {
			fmt.Fprintf(&out, "-A %s %s %s/32 -j RETURN\n", way.chain, way.flag, address)
		}
		fmt.Fprintf(&out, "-A %s -j NFQUEUE --queue-num %d\n", way.chain, queue)
	}
	fmt.Fprintln(&out, "COMMIT")
	return out.String()
}

// lead sends what is no part of a known connection from a hook to the chains, unless it goes there already.
func lead(hook string) error {
	rule := []string{hook, "-m", "conntrack", "!", "--ctstate", "RELATED,ESTABLISHED", "-j", all}
	if iptables(append([]string{"-C"}, rule...)...) == nil {
		return nil
	}
	return iptables(append([]string{"-I"}, rule...)...)
}

func iptables(args ...string) error {
	return program("", "iptables-nft", append([]string{"--wait", "5", "--table", "mangle"}, args...)...)
}

// restore replaces the chains named in text and leaves all others alone.
func restore(text string) error {
	return program(text, "iptables-nft-restore", "--wait", "5", "--noflush")
}

// program runs a program of iptables; that of nftables, which asks for no more than CAP_NET_ADMIN.
func program(input, name string, args ...string) error {
	command := exec.Command(name, args...)
	command.Stdin = strings.NewReader(input)
	var said bytes.Buffer
	command.Stderr = &said
	if err := command.Run(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(said.String()))
	}
	return nil
}
