// Command pulumi-language-python lets the Pulumi engine run Python: programs, policy packs, providers.
//
// The engine starts it with its own address and reads from the first line it prints which port it
// answers on; all else is the gRPC service LanguageRuntime of Pulumi's SDK. Beside it lies
// pulumi-language-python-exec, a script of that SDK, which runs a program in the interpreter.
//
// Linked as pulumi-resource-pulumi-python it is the plugin of dynamic providers (dynamic.go).
//
// What it knows, by file: programs (program.go), policy packs and providers (plugin.go), the
// environment of each (environment.go), what an environment holds (packages.go), `pulumi install`
// (install.go), and how what it starts ends (processes.go). It generates no code and attaches no
// debugger.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/util/rpcutil"
	"github.com/pulumi/pulumi/sdk/v3/go/common/version"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
)

// how often the engine is asked whether it is still there, where nothing tells sooner
var engineCheck = 10 * time.Second

func main() {
	run := serve
	if filepath.Base(os.Args[0]) == dynamicProvider {
		run = provideDynamically
	}
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", filepath.Base(os.Args[0]), err)
		os.Exit(1)
	}
}

// host answers the engine. What it starts for a call ends with the call, and all of it with `alive`.
type host struct {
	pulumirpc.UnimplementedLanguageRuntimeServer

	engine   string // the engine's own address
	executor string // the script that runs a program
	alive    context.Context
	stop     context.CancelFunc
}

// newHost is a host for the engine at the address in the first argument, until that engine is gone.
func newHost() (*host, error) {
	if len(os.Args) != 2 {
		return nil, errors.New("this program is started by the Pulumi engine, with its address")
	}
	h := &host{engine: os.Args[1]}
	h.alive, h.stop = signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	if err := rpcutil.Healthcheck(h.alive, h.engine, engineCheck, h.stop); err != nil {
		return nil, fmt.Errorf("%s is not the address of an engine: %w", h.engine, err)
	}
	// The engine holds the other end of this pipe and writes nothing: it closes when the engine dies,
	// however it does. Whoever starts this by hand has a terminal or a file there, and the check above.
	if in, err := os.Stdin.Stat(); err == nil && in.Mode()&os.ModeNamedPipe != 0 {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			h.stop()
		}()
	}
	return h, nil
}

// serve answers the engine until it is gone or says so.
func serve() error {
	h, err := newHost()
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	h.executor = filepath.Join(filepath.Dir(program), executor)
	if _, err := os.Stat(h.executor); err != nil {
		return fmt.Errorf("the script that runs programs is not beside this one: %w", err)
	}
	ended := make(chan bool)
	context.AfterFunc(h.alive, func() { close(ended) })
	server, err := rpcutil.ServeWithOptions(rpcutil.ServeOptions{
		Cancel: ended,
		Init: func(s *grpc.Server) error {
			pulumirpc.RegisterLanguageRuntimeServer(s, h)
			return nil
		},
	})
	if err != nil {
		return err
	}
	fmt.Println(server.Port) // the engine waits for this line
	return <-server.Done
}

// GetPluginInfo tells the version of the SDK this was built with, which is the engine's.
func (h *host) GetPluginInfo(context.Context, *emptypb.Empty) (*pulumirpc.PluginInfo, error) {
	return &pulumirpc.PluginInfo{Version: version.Version}, nil
}

// Cancel ends what runs, and this process once every call is answered.
func (h *host) Cancel(context.Context, *emptypb.Empty) (*emptypb.Empty, error) {
	h.stop()
	return &emptypb.Empty{}, nil
}
