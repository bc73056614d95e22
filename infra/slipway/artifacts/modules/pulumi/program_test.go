package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

func TestAProgramGetsWhatTheEngineSays(t *testing.T) {
	address, _ := engine(t)
	s := start(t, address)
	p := newProject(t, "import os\nprint('program in', os.getcwd())\n")
	request := p.request()
	request.MonitorAddress, request.Organization, request.DryRun = "127.0.0.1:1", "organization", true
	request.Config = map[string]string{"shop:password": "hidden", "shop:size": "3"}
	request.ConfigSecretKeys = []string{"shop:password"}
	request.Args = []string{"--more"}
	answer, err := s.Run(in(t), request)
	check(t, err)
	if answer.GetError() != "" || answer.GetBail() {
		t.Error(answer)
	}
	s.out.shows(t, "program in "+p.folder)
	_, told, _ := strings.Cut(s.out.all(), "given ")
	var given struct {
		Arguments   []string `json:"arguments"`
		Config      string   `json:"PULUMI_CONFIG"`
		Secret      string   `json:"PULUMI_CONFIG_SECRET_KEYS"`
		Environment string   `json:"VIRTUAL_ENV"`
	}
	check(t, json.Unmarshal([]byte(strings.SplitN(told, "\n", 2)[0]), &given))
	wanted := []string{
		"--monitor", "127.0.0.1:1", "--engine", address, "--organization", "organization", "--project", "shop",
		"--stack", "dev", "--root_directory", p.folder, "--pwd", p.folder, "--parallel", "4", "--dry_run", "true",
		"program.py", "--more",
	}
	if !slices.Equal(given.Arguments, wanted) {
		t.Error(given.Arguments)
	}
	if given.Config != `{"shop:password":"hidden","shop:size":"3"}` || given.Secret != `["shop:password"]` {
		t.Error(given)
	}
	if given.Environment != filepath.Join(p.folder, "venv") {
		t.Error(given.Environment)
	}
}

func TestWithoutSecretsTheListIsEmptyAndNotNull(t *testing.T) {
	address, _ := engine(t)
	s := start(t, address)
	_, err := s.Run(in(t), newProject(t, "").request())
	check(t, err)
	s.out.shows(t, `"PULUMI_CONFIG_SECRET_KEYS": "[]"`)
}

func TestHowAProgramEndsIsTold(t *testing.T) {
	address, _ := engine(t)
	s := start(t, address)
	for program, wanted := range map[string]*pulumirpc.RunResponse{
		"pass":                                {},
		"import sys; sys.exit(0)":             {},
		"import sys; sys.exit(32)":            {Bail: true}, // the executor has told it
		"import sys; sys.exit(3)":             {Error: "the program ended with exit code 3"},
		"raise ValueError('odd')":             {Error: "the program ended with exit code 1"},
		"import os; os.kill(os.getpid(), 9)":  {Error: "the program was killed (by hand, or by the system for want of memory)"},
		"import os; os.kill(os.getpid(), 11)": {Error: "the program was ended by a signal: segmentation fault"},
	} {
		answer, err := s.Run(in(t), newProject(t, program).request())
		if err != nil || answer.GetError() != wanted.GetError() || answer.GetBail() != wanted.GetBail() {
			t.Errorf("%s: %v %v", program, answer, err)
		}
	}
	s.err.shows(t, "ValueError: odd") // what it prints reaches the engine
}

func TestACallThatIsGivenUpEndsItsProgramAndNoOther(t *testing.T) {
	address, _ := engine(t)
	s := start(t, address)
	p := newProject(t, "import os\nwith open('pid.new', 'w') as file: file.write(str(os.getpid()))\n"+
		"os.rename('pid.new', 'pid')\n"+forLong)
	ctx, giveUp := context.WithCancel(in(t))
	ended := make(chan error, 1)
	go func() {
		_, err := s.Run(ctx, p.request())
		ended <- err
	}()
	var pid int
	read(t, filepath.Join(p.folder, "pid"), &pid)
	giveUp()
	if err := <-ended; status.Code(err) != codes.Canceled {
		t.Error(err)
	}
	until(t, func() bool { return !alive(pid) }, func() string { return "the program is still there" })
	if _, err := s.Run(in(t), newProject(t, "").request()); err != nil {
		t.Error("the host is gone too: ", err)
	}
}

func TestAConfigurationThatNoProcessTakesIsRefusedInWords(t *testing.T) {
	address, _ := engine(t)
	s := start(t, address)
	request := newProject(t, "").request()
	request.Config = map[string]string{"shop:text": strings.Repeat("x", 200_000)}
	_, err := s.Run(in(t), request)
	contains(t, status.Convert(err).Message(), "the stack's configuration is 200016 bytes", "put what is large into files")
}

func TestNoDebuggerIsPretended(t *testing.T) {
	address, _ := engine(t)
	s := start(t, address)
	request := newProject(t, "raise SystemExit(3)").request()
	request.AttachDebugger = true
	_, err := s.Run(in(t), request)
	contains(t, status.Convert(err).Message(), "cannot attach a debugger")
}

func TestAVirtualEnvironmentThatDoesNotWorkIsNamedWithTheWayOut(t *testing.T) {
	address, _ := engine(t)
	s := start(t, address)
	for name, c := range map[string]struct {
		spoil func(venv string) error
		words string
	}{
		"missing": {os.RemoveAll, "is not there"},
		"without Python": {
			func(venv string) error { return os.Remove(filepath.Join(venv, "bin/python")) },
			"is none: it has no bin/python",
		},
		"whose Python was removed": {
			func(venv string) error {
				_ = os.Remove(filepath.Join(venv, "bin/python"))
				return os.Symlink("/opt/gone/python3", filepath.Join(venv, "bin/python"))
			},
			"is broken: its bin/python leads to /opt/gone/python3, which is not there",
		},
		"that may not run": {
			func(venv string) error {
				_ = os.Remove(filepath.Join(venv, "bin/python"))
				return os.WriteFile(filepath.Join(venv, "bin/python"), []byte("#!/bin/sh\n"), 0o644)
			},
			"is broken: its bin/python is no program",
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProject(t, "")
			venv := filepath.Join(p.folder, "venv")
			check(t, c.spoil(venv))
			_, ran := s.Run(in(t), p.request())
			_, asked := s.GetRequiredPackages(in(t), &pulumirpc.GetRequiredPackagesRequest{Info: p.info})
			for _, err := range []error{ran, asked} {
				contains(t, status.Convert(err).Message(),
					"the virtual environment "+venv+", which runtime.options.virtualenv in "+p.folder+" names (venv), "+c.words,
					"`pulumi install` in "+p.folder, "python3 -m venv --clear "+venv)
			}
		})
	}
}

func TestAPythonThatFailsIsToldWithItsLastLine(t *testing.T) {
	address, _ := engine(t)
	s := start(t, address)
	p := newProject(t, "")
	python := filepath.Join(p.folder, "venv/bin/python")
	check(t, os.Remove(python))
	check(t, os.WriteFile(python, []byte("#!/bin/sh\necho no libpython >&2\nexit 127\n"), 0o755))
	_, err := s.GetRequiredPackages(in(t), &pulumirpc.GetRequiredPackagesRequest{Info: p.info})
	contains(t, status.Convert(err).Message(), "cannot tell which plugins the program needs", python, "exit status 127", "no libpython")
}

func TestAnOptionThatIsNotKnownIsRefused(t *testing.T) {
	address, _ := engine(t)
	s := start(t, address)
	for words, named := range map[string]map[string]any{
		"does not know the runtime option typechecker: mypy": {"typechecker": "mypy"},
		"does not know the runtime option toolchain: conda":  {"toolchain": "conda"},
		"runtime option virtualenv must be text, not true":   {"virtualenv": true},
	} {
		p := newProject(t, "")
		p.info.Options = options(t, named)
		_, err := s.Run(in(t), p.request())
		contains(t, status.Convert(err).Message(), words)
	}
}

func TestAProgramThatTheEngineStopsIsNotBlamed(t *testing.T) {
	address, _ := engine(t)
	s := start(t, address)
	p := newProject(t, forLong)
	ended := make(chan error, 1)
	go func() {
		_, err := s.Run(context.Background(), p.request())
		ended <- err
	}()
	s.out.shows(t, "waits")
	_, err := s.Cancel(in(t), &emptypb.Empty{})
	check(t, err)
	if err := <-ended; status.Code(err) != codes.Canceled {
		t.Error(err)
	}
}
