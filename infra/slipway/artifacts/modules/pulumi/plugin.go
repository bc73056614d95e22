package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"github.com/pulumi/pulumi/sdk/v3/python/toolchain"
	"google.golang.org/grpc"
)

// RunPlugin runs a policy pack (`pulumi preview --policy-pack FOLDER`) or a provider written in Python until
// it ends or the engine gives up the call; what it prints and its exit code go to the engine as they come.
func (h *host) RunPlugin(req *pulumirpc.RunPluginRequest, to grpc.ServerStreamingServer[pulumirpc.RunPluginResponse]) error {
	if req.GetAttachDebugger() {
		return errors.New("this language host cannot attach a debugger")
	}
	ctx, done := h.during(to.Context())
	defer done()
	python, err := readyEnvironment(ctx, req.GetInfo())
	if err != nil {
		return err
	}
	arguments, err := pluginArguments(req)
	if err != nil {
		return err
	}
	command, err := python.Command(ctx, append([]string{"-u"}, arguments...)...)
	if err != nil {
		return err
	}
	if command.Env, err = python.activated(ctx, req.GetEnv()); err != nil {
		return err
	}
	command.Dir = req.GetPwd()
	var one sync.Mutex // a stream takes one message at a time
	command.Stdout = sent(func(chunk []byte) error {
		one.Lock()
		defer one.Unlock()
		return to.Send(&pulumirpc.RunPluginResponse{Output: &pulumirpc.RunPluginResponse_Stdout{Stdout: chunk}})
	})
	command.Stderr = sent(func(chunk []byte) error {
		one.Lock()
		defer one.Unlock()
		return to.Send(&pulumirpc.RunPluginResponse{Output: &pulumirpc.RunPluginResponse_Stderr{Stderr: chunk}})
	})
	code, _, err := exit(run(ctx, command))
	if err != nil {
		return fmt.Errorf("%s does not run: %w", command.Path, err)
	}
	return to.Send(&pulumirpc.RunPluginResponse{Output: &pulumirpc.RunPluginResponse_Exitcode{Exitcode: int32(code)}})
}

// pluginArguments is what Python is started with for a plugin. Both ways of running lie in the SDK: a policy
// pack is a program that `pulumi.policy` runs, a package of components is hosted by `pulumi.run.plugin`.
func pluginArguments(req *pulumirpc.RunPluginRequest) ([]string, error) {
	info := req.GetInfo()
	folder := filepath.Join(info.GetProgramDirectory(), info.GetEntryPoint())
	switch req.GetKind() {
	case "analyzer":
		return append(append([]string{"-m", "pulumi.policy"}, req.GetArgs()...), folder), nil
	case "resource", "converter", "tool":
		packaged, err := toolchain.IsBuildablePackage(info.GetProgramDirectory())
		if err != nil {
			return nil, err
		}
		if !packaged {
			return append([]string{folder}, req.GetArgs()...), nil
		}
		pyproject, err := toolchain.LoadPyproject(info.GetProgramDirectory())
		if err != nil {
			return nil, err
		}
		return append([]string{"-m", "pulumi.run.plugin", pyproject.Project.Name}, req.GetArgs()...), nil
	default:
		return nil, fmt.Errorf("this language host runs no plugins of kind %q", req.GetKind())
	}
}

// sent is a writer over a stream's Send.
type sent func([]byte) error

func (s sent) Write(chunk []byte) (int, error) {
	if err := s(chunk); err != nil {
		return 0, err
	}
	return len(chunk), nil
}
