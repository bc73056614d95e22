package main

import (
	"fmt"
	"sync"

	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"github.com/pulumi/pulumi/sdk/v3/python/toolchain"
	"google.golang.org/grpc"
)

// InstallDependencies makes the environment and installs what the program asks for, as `pulumi install`
// wants it: the SDK's toolchain does it, by pip, poetry or uv. A plugin that is a package is installed too.
func (h *host) InstallDependencies(
	req *pulumirpc.InstallDependenciesRequest, to grpc.ServerStreamingServer[pulumirpc.InstallDependenciesResponse],
) error {
	ctx, done := h.during(to.Context())
	defer done()
	python, err := environmentOf(req.GetInfo())
	if err != nil {
		return err
	}
	var one sync.Mutex
	out := sent(func(chunk []byte) error {
		one.Lock()
		defer one.Unlock()
		return to.Send(&pulumirpc.InstallDependenciesResponse{Stdout: chunk})
	})
	wrong := sent(func(chunk []byte) error {
		one.Lock()
		defer one.Unlock()
		return to.Send(&pulumirpc.InstallDependenciesResponse{Stderr: chunk})
	})
	folder := req.GetInfo().GetProgramDirectory()
	if err := python.InstallDependencies(ctx, folder, req.GetUseLanguageVersionTools(), true, out, wrong); err != nil {
		return fmt.Errorf("installing what %s asks for: %w", folder, err)
	}
	if packaged, err := toolchain.IsBuildablePackage(folder); err != nil || !packaged || !req.GetIsPlugin() {
		return err
	}
	return python.InstallPackage(ctx, folder, req.GetUseLanguageVersionTools(), true, out, wrong)
}
