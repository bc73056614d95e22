package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc/status"
)

// in the place of the SDK's modules that run a policy pack, a package of components and dynamic providers
const moduleStandIn = `import os, sys
print(sys.argv[1:], os.getcwd(), os.environ.get("COLOUR"), os.environ.get("VIRTUAL_ENV"), flush=True)
print("and wrong", file=sys.stderr)
sys.exit(7)
`

func withModules(t *testing.T, program string) project {
	t.Helper()
	p := newProject(t, program)
	for _, name := range []string{"pulumi/policy", "pulumi/run/plugin", "pulumi/dynamic"} {
		write(t, filepath.Join(p.packages(t), name, "__main__.py"), strings.Replace(moduleStandIn, "print(", "print('"+name+"', ", 1))
	}
	return p
}

func ran(t *testing.T, s *started, request *pulumirpc.RunPluginRequest) (string, string, int32, error) {
	t.Helper()
	stream, err := s.RunPlugin(in(t), request)
	check(t, err)
	var out, wrong strings.Builder
	code := int32(-1)
	for {
		message, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return out.String(), wrong.String(), code, nil
		case err != nil:
			return out.String(), wrong.String(), code, err
		}
		switch said := message.GetOutput().(type) {
		case *pulumirpc.RunPluginResponse_Stdout:
			out.Write(said.Stdout)
		case *pulumirpc.RunPluginResponse_Stderr:
			wrong.Write(said.Stderr)
		case *pulumirpc.RunPluginResponse_Exitcode:
			code = said.Exitcode
		}
	}
}

func TestAPolicyPackRunsInItsOwnEnvironment(t *testing.T) {
	address, _ := engine(t)
	s := start(t, address)
	p := withModules(t, "")
	p.info.EntryPoint = "."
	elsewhere := t.TempDir()
	out, wrong, code, err := ran(t, s, &pulumirpc.RunPluginRequest{
		Kind: "analyzer", Info: p.info, Pwd: elsewhere, Args: []string{address}, Env: []string{"COLOUR=green", "PATH=/bin"},
	})
	check(t, err)
	if want := "pulumi/policy ['" + address + "', '" + p.folder + "'] " + elsewhere + " green " +
		filepath.Join(p.folder, "venv") + "\n"; out != want || wrong != "and wrong\n" || code != 7 {
		t.Error(out, want, wrong, code)
	}
}

func TestAProviderRunsAsAProgramOrAsAPackage(t *testing.T) {
	address, _ := engine(t)
	s := start(t, address)
	p := withModules(t, "")
	p.info.EntryPoint = "."
	request := &pulumirpc.RunPluginRequest{Kind: "resource", Info: p.info, Pwd: p.folder, Args: []string{address}}
	write(t, filepath.Join(p.folder, "__main__.py"), strings.Replace(moduleStandIn, "print(", "print('program', ", 1))
	out, _, code, err := ran(t, s, request)
	check(t, err)
	contains(t, out, "program ['"+address+"']")
	if code != 7 {
		t.Error(code)
	}
	write(t, filepath.Join(p.folder, "pyproject.toml"),
		"[project]\nname = 'shop-parts'\nversion = '1'\n[build-system]\nbuild-backend = 'x'\n")
	out, _, _, err = ran(t, s, request)
	check(t, err)
	contains(t, out, "pulumi/run/plugin ['shop-parts', '"+address+"']")
}

func TestAPluginOfAnotherKindAndADebuggerAreRefused(t *testing.T) {
	address, _ := engine(t)
	s := start(t, address)
	p := withModules(t, "")
	_, _, _, err := ran(t, s, &pulumirpc.RunPluginRequest{Kind: "language", Info: p.info})
	contains(t, status.Convert(err).Message(), `runs no plugins of kind "language"`)
	_, _, _, err = ran(t, s, &pulumirpc.RunPluginRequest{Kind: "analyzer", Info: p.info, AttachDebugger: true})
	contains(t, status.Convert(err).Message(), "cannot attach a debugger")
}

func TestAPluginEndsWhenTheEngineGivesItUp(t *testing.T) {
	address, _ := engine(t)
	s := start(t, address)
	p := newProject(t, "import os\nprint(os.getpid(), flush=True)\n"+forLong)
	ctx, giveUp := context.WithCancel(in(t))
	stream, err := s.RunPlugin(ctx, &pulumirpc.RunPluginRequest{Kind: "resource", Info: p.info, Pwd: p.folder, Env: os.Environ()})
	check(t, err)
	message, err := stream.Recv()
	check(t, err)
	pid := number(t, string(message.GetStdout()))
	if !alive(pid) {
		t.Fatal(message)
	}
	giveUp()
	until(t, func() bool { return !alive(pid) }, func() string { return "the plugin is still there" })
}

func TestDynamicProvidersRunInTheProgramsEnvironment(t *testing.T) {
	address, _ := engine(t)
	p := withModules(t, "")
	write(t, filepath.Join(p.folder, "Pulumi.yaml"), "name: shop\n")
	check(t, os.Mkdir(filepath.Join(p.folder, "inner"), 0o755))
	program := install(t, dynamicProvider)
	s := launchIn(t, filepath.Join(p.folder, "inner"), program, address, optionPrefix+"VIRTUALENV=venv", "COLOUR=green")
	if code, _, _ := exit(s.ends(t)); code != 1 {
		t.Error(code)
	}
	contains(t, s.out.all(), "pulumi/dynamic ['"+address+"'] "+p.folder+"/inner green "+filepath.Join(p.folder, "venv"))
	contains(t, s.err.all(), dynamicProvider+": the server of dynamic providers ended with exit code 7")

	s = launchIn(t, p.folder, program, address, optionPrefix+"VIRTUALENV=other")
	if code, _, _ := exit(s.ends(t)); code != 1 {
		t.Error(code)
	}
	contains(t, s.err.all(), "the virtual environment "+p.folder+"/other", "is not there")
}

func TestDynamicProvidersEndWithTheEngine(t *testing.T) {
	address, _ := engine(t)
	p := newProject(t, "")
	write(t, filepath.Join(p.packages(t), "pulumi/dynamic/__main__.py"), "import os\nprint(os.getpid(), flush=True)\n"+forLong)
	s := launchIn(t, p.folder, install(t, dynamicProvider), address, optionPrefix+"VIRTUALENV=venv")
	pid := number(t, s.out.line(t))
	check(t, s.in.Close())
	check(t, s.ends(t))
	until(t, func() bool { return !alive(pid) }, func() string { return "the provider is still there" })
}
