package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc/status"
)

// in the place of the Python on PATH, which makes an environment, and of the environment's own
const pythonStandIn = `#!/bin/sh
echo "asked: $*"
echo "warned" >&2
[ "$2" = venv ] && mkdir -p "$3/bin" && cp "$0" "$3/bin/python"
[ "$REFUSED" = "$3" ] && exit 9
exit 0
`

func TestInstallMakesTheEnvironmentAndFillsIt(t *testing.T) {
	address, _ := engine(t)
	folder := t.TempDir()
	write(t, filepath.Join(folder, "requirements.txt"), "shop\n")
	stand := filepath.Join(t.TempDir(), "python3")
	check(t, os.WriteFile(stand, []byte(pythonStandIn), 0o755))
	info := &pulumirpc.ProgramInfo{
		RootDirectory: folder, ProgramDirectory: folder, EntryPoint: ".", Options: options(t, map[string]any{"virtualenv": "venv"}),
	}
	s := start(t, address, "PULUMI_PYTHON_CMD="+stand)
	out, wrong, err := installed(t, s, info)
	check(t, err)
	contains(t, out, "Creating virtual environment", "asked: -m pip install -r requirements.txt")
	contains(t, wrong, "warned")

	s = start(t, address, "PULUMI_PYTHON_CMD="+stand, "REFUSED=install")
	_, _, err = installed(t, s, info)
	contains(t, status.Convert(err).Message(), "installing what "+folder+" asks for", "exit status 9")
}

func installed(t *testing.T, s *started, info *pulumirpc.ProgramInfo) (string, string, error) {
	t.Helper()
	stream, err := s.InstallDependencies(in(t), &pulumirpc.InstallDependenciesRequest{Info: info})
	check(t, err)
	var out, wrong strings.Builder
	for {
		message, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return out.String(), wrong.String(), nil
		case err != nil:
			return out.String(), wrong.String(), err
		}
		out.Write(message.GetStdout())
		wrong.Write(message.GetStderr())
	}
}
