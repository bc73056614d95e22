// Command netpol enforces the NetworkPolicies of one Kubernetes node. The
// packages of kube-network-policies judge the first packet of each connection,
// which the kernel hands them through an nfqueue; this program sets the rules
// that queue it.
//
// It does so with the queue target of iptables, because a kernel may lack the
// queue expression of nftables, which those packages use. Where the kernel has
// it they set a table of their own too; a connection is then judged twice, alike.
// Two more things differ from the program of that project: connections of a pod
// to its own node are judged too, and so are those of pod addresses that the
// cluster has not told of yet.
//
// What is queued while nobody judges is dropped by the kernel. On SIGTERM the
// program leaves the rules in place, so a guarded pod stays guarded without it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/kube-network-policies/pkg/networkpolicy"
)

const (
	queues      = "/proc/net/netfilter/nfnetlink_queue" // one line a queue somebody listens to
	startPeriod = 30 * time.Second                      // to list what the cluster has and to open the queue
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "kubeconfig file; empty means the pod's service account")
	node := flag.String("hostname-override", "", "name of this node in the cluster")
	queue := flag.Int("nfqueue-id", 100, "number of the nfqueue")
	metrics := flag.String("metrics-bind-address", "127.0.0.1:9080", "where to serve /metrics, once connections are judged")
	klog.InitFlags(nil)
	flag.Parse()

	ended, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	failed := make(chan error, 1)
	// a context that never ends: at the end of theirs the packages would take their table away
	go func() { failed <- run(context.Background(), *kubeconfig, *node, *queue, *metrics) }()
	select {
	case <-ended.Done():
		klog.InfoS("stopped on request, the rules stay")
		klog.Flush()
	case err := <-failed:
		klog.ErrorS(err, "netpol failed")
		klog.FlushAndExit(klog.ExitFlushTimeout, 1)
	}
}

// run judges connections and keeps the rules in step with the pods; it returns only with an error.
func run(ctx context.Context, kubeconfig, node string, queue int, metrics string) error {
	if node == "" {
		return errors.New("--hostname-override is not set")
	}
	client, err := connect(kubeconfig)
	if err != nil {
		return err
	}
	pods, err := podNetwork(ctx, client, node)
	if err != nil {
		return err
	}
	failed := make(chan error, 3)
	factory := informers.NewSharedInformerFactory(client, 0)
	judge, err := networkpolicy.NewController(
		client,
		factory.Networking().V1().NetworkPolicies(),
		factory.Core().V1().Namespaces(),
		factory.Core().V1().Pods(),
		nil, nil, nil, nil,
		// without the fix name questions are judged where all else is, which kernels from 6.12 on need not fear
		networkpolicy.Config{NodeName: node, QueueID: queue, NetfilterBug1766Fix: true},
	)
	if err != nil {
		return err
	}
	guard := newGuard(factory, node, pods, queue)
	factory.Start(ctx.Done())
	starting, cancel := context.WithTimeout(ctx, startPeriod)
	defer cancel()
	for kind, synced := range factory.WaitForCacheSync(starting.Done()) {
		if !synced {
			return fmt.Errorf("the cluster did not list its %s within %s", kind, startPeriod)
		}
	}
	go func() { failed <- fmt.Errorf("the judge stopped: %w", judge.Run(ctx)) }()
	if err := listened(starting, queue); err != nil {
		return err
	}
	// Rules of an earlier run held until here; from here on every change of the pods is followed.
	if err := guard.set(); err != nil {
		return err
	}
	klog.InfoS("judging connections", "node", node, "pods", pods, "queue", queue)
	go func() { failed <- guard.follow(ctx) }()
	go func() { failed <- serve(metrics) }()
	return <-failed
}

// connect asks for protobuf: an empty list of a policy's rules, which allows nothing, arrives as none in it.
// Out of JSON it would arrive as an empty one, which the judge takes for "allows everything".
func connect(kubeconfig string) (*kubernetes.Clientset, error) {
	access, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	access.ContentType = "application/vnd.kubernetes.protobuf"
	access.AcceptContentTypes = "application/vnd.kubernetes.protobuf"
	return kubernetes.NewForConfig(access)
}

// podNetwork is where the addresses of this node's pods lie.
func podNetwork(ctx context.Context, client kubernetes.Interface, node string) (netip.Prefix, error) {
	found, err := client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
	if err != nil {
		return netip.Prefix{}, err
	}
	if len(found.Spec.PodCIDRs) > 1 {
		return netip.Prefix{}, fmt.Errorf("node %s has pod networks %v, one of IPv4 is supported", node, found.Spec.PodCIDRs)
	}
	network, err := netip.ParsePrefix(found.Spec.PodCIDR)
	if err != nil || !network.Addr().Is4() {
		return netip.Prefix{}, fmt.Errorf("node %s has pod network %q, one of IPv4 is supported", node, found.Spec.PodCIDR)
	}
	return network.Masked(), nil
}

// listened waits until the judge has opened its queue. Raises an error when it has not in time.
func listened(ctx context.Context, queue int) error {
	for {
		text, err := os.ReadFile(queues)
		if err != nil {
			return fmt.Errorf("this kernel has no nfqueue (module nfnetlink_queue): %w", err)
		}
		for line := range strings.Lines(string(text)) {
			if fields := strings.Fields(line); len(fields) > 0 && fields[0] == fmt.Sprint(queue) {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("queue %d was not opened within %s", queue, startPeriod)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// serve answers /metrics, which the probes of the pod ask: who answers there guards the node.
func serve(address string) error {
	http.Handle("/metrics", promhttp.Handler())
	return http.ListenAndServe(address, nil)
}
