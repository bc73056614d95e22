package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"

	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	executor = "pulumi-language-python-exec"
	// what the executor ends with when it has told the user what is wrong
	alreadyTold = 32
)

// Run runs the program once; what it prints goes to the engine through this process's output.
//
// An exception is told by the executor, with the lines of the program it came from; any other end but exit
// code 0 is told here.
func (h *host) Run(ctx context.Context, req *pulumirpc.RunRequest) (*pulumirpc.RunResponse, error) {
	if req.GetAttachDebugger() {
		return nil, errors.New("this language host cannot attach a debugger")
	}
	ctx, done := h.during(ctx)
	defer done()
	python, err := readyEnvironment(ctx, req.GetInfo())
	if err != nil {
		return nil, err
	}
	program, err := python.Command(ctx, h.arguments(req)...)
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(req.GetConfig())
	if err != nil {
		return nil, err
	}
	secret, err := json.Marshal(append([]string{}, req.GetConfigSecretKeys()...))
	if err != nil {
		return nil, err
	}
	if program.Env == nil {
		program.Env = os.Environ()
	}
	// not as arguments, which every user of the machine can read
	program.Env = append(program.Env, "PULUMI_CONFIG="+string(config), "PULUMI_CONFIG_SECRET_KEYS="+string(secret))
	program.Stdout, program.Stderr = os.Stdout, os.Stderr

	code, words, err := exit(run(ctx, program))
	switch {
	case ctx.Err() != nil:
		// the engine has said why it stops; an error of the program's would stand over that
		return nil, status.Error(codes.Canceled, "the program was stopped")
	case errors.Is(err, syscall.E2BIG):
		return nil, fmt.Errorf("the stack's configuration is %d bytes, more than the system hands to a process: "+
			"put what is large into files", len(config))
	case err != nil:
		return nil, fmt.Errorf("%s does not start: %w", program.Path, err)
	case code == 0:
		return &pulumirpc.RunResponse{}, nil
	case code == alreadyTold:
		return &pulumirpc.RunResponse{Bail: true}, nil
	default:
		return &pulumirpc.RunResponse{Error: "the program " + words}, nil
	}
}

func (h *host) arguments(req *pulumirpc.RunRequest) []string {
	info := req.GetInfo()
	arguments := []string{h.executor}
	for _, option := range []struct{ name, value string }{
		{"--monitor", req.GetMonitorAddress()},
		{"--engine", h.engine},
		{"--organization", req.GetOrganization()},
		{"--project", req.GetProject()},
		{"--stack", req.GetStack()},
		{"--root_directory", info.GetRootDirectory()},
		{"--pwd", req.GetPwd()},
		{"--parallel", strconv.Itoa(int(req.GetParallel()))},
		{"--dry_run", strconv.FormatBool(req.GetDryRun())},
	} {
		if option.value != "" {
			arguments = append(arguments, option.name, option.value)
		}
	}
	return append(append(arguments, info.GetEntryPoint()), req.GetArgs()...)
}
