package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"github.com/pulumi/pulumi/sdk/v3/python/toolchain"
)

// environment is the Python of a program, policy pack or provider.
type environment struct {
	toolchain.Toolchain
	root string
	venv string // as runtime.options.virtualenv names it; empty for the Python on PATH
}

// environmentOf is the Python that runtime.options of Pulumi.yaml, PulumiPolicy.yaml or PulumiPlugin.yaml
// name. It need not be there.
func environmentOf(info *pulumirpc.ProgramInfo) (*environment, error) {
	options := map[string]string{}
	for name, value := range info.GetOptions().AsMap() {
		text, ok := value.(string)
		if !ok {
			return nil, fmt.Errorf("runtime option %s must be text, not %v", name, value)
		}
		options[name] = text
	}
	return resolve(info.GetRootDirectory(), info.GetProgramDirectory(), options)
}

func resolve(root, program string, named map[string]string) (*environment, error) {
	options := toolchain.PythonOptions{Root: root, ProgramDir: program}
	for name, value := range named {
		switch {
		case name == "virtualenv":
			options.Virtualenv = value
		case name == "toolchain" && value == "pip":
			options.Toolchain = toolchain.Pip
		case name == "toolchain" && value == "poetry":
			options.Toolchain = toolchain.Poetry
		case name == "toolchain" && value == "uv":
			options.Toolchain = toolchain.Uv
		default:
			return nil, fmt.Errorf("this language host does not know the runtime option %s: %s; "+
				"it knows virtualenv, and toolchain: pip, poetry or uv", name, value)
		}
	}
	resolved, err := toolchain.ResolveToolchain(options)
	if err != nil {
		return nil, err
	}
	return &environment{resolved, root, options.Virtualenv}, nil
}

// readyEnvironment is environmentOf(info), refused in words when it is not there.
func readyEnvironment(ctx context.Context, info *pulumirpc.ProgramInfo) (*environment, error) {
	python, err := environmentOf(info)
	if err != nil {
		return nil, err
	}
	return python, python.ready(ctx)
}

// ready says which folder is no virtual environment, why, and what makes it one.
func (e *environment) ready(ctx context.Context) error {
	if e.venv == "" {
		return e.ValidateVenv(ctx) // poetry and uv know their own
	}
	folder, err := e.VirtualEnvPath(ctx)
	if err != nil {
		return err
	}
	interpreter := filepath.Join(folder, "bin", "python")
	switch _, err := os.Stat(folder); {
	case errors.Is(err, os.ErrNotExist):
		return e.broken(folder, "is not there")
	case err != nil:
		return e.broken(folder, err.Error())
	}
	if file, err := os.Stat(interpreter); err != nil {
		if leads, unread := os.Readlink(interpreter); unread == nil {
			return e.broken(folder, fmt.Sprintf("is broken: its bin/python leads to %s, which is not there", leads))
		}
		return e.broken(folder, "is none: it has no bin/python")
	} else if file.IsDir() || file.Mode()&0o111 == 0 {
		return e.broken(folder, "is broken: its bin/python is no program")
	}
	return nil
}

// broken is the error for a virtual environment that cannot be used, with the way out.
func (e *environment) broken(folder, how string) error {
	return fmt.Errorf("the virtual environment %s, which runtime.options.virtualenv in %s names (%s), %s; "+
		"make it as the project says, or by `pulumi install` in %s, or by `python3 -m venv --clear %s` and then "+
		"`%s -m pip install -r` with the program's requirements",
		folder, e.root, e.venv, how, e.root, folder, filepath.Join(folder, "bin", "python"))
}

// asked is what Python prints for `script`; what goes wrong is told with what Python said of it.
func (e *environment) asked(ctx context.Context, script string, arguments ...string) ([]byte, error) {
	command, err := e.Command(ctx, append([]string{"-c", script}, arguments...)...)
	if err != nil {
		return nil, err
	}
	said, err := command.Output()
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		lines := strings.Split(strings.TrimSpace(string(ended.Stderr)), "\n")
		return nil, fmt.Errorf("%s does not work (%w): %s", command.Path, err, lines[len(lines)-1])
	}
	if err != nil {
		return nil, fmt.Errorf("%s does not start: %w", command.Path, err)
	}
	return said, nil
}

// activated is `environ` as a program of this environment is to see it.
func (e *environment) activated(ctx context.Context, environ []string) ([]string, error) {
	folder, err := e.VirtualEnvPath(ctx)
	if err != nil || folder == "" {
		return environ, err
	}
	return toolchain.ActivateVirtualEnv(environ, folder), nil
}
