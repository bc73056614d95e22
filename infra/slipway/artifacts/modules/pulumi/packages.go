package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
)

const (
	// a package that needs a plugin says so in this file; the first on the path is the one imported
	findPlugins = `import glob, json, os, sys
found = {}
for folder in sys.path:
    for file in glob.glob(os.path.join(glob.escape(folder), "*", "pulumi-plugin.json")):
        found.setdefault(os.path.basename(os.path.dirname(file)), file)
print(json.dumps([json.load(open(file)) for file in found.values()]))`
	// asked of Python and not of pip, which many an environment has not
	listInstalled = `import importlib.metadata, json, re, sys
plain = lambda name: re.sub("[-_.]+", "-", name).lower()
found = {}
for one in importlib.metadata.distributions():
    if one.metadata["Name"]:
        found.setdefault(plain(one.metadata["Name"]), one)
if sys.argv[1] == "false":
    for one in list(found.values()):
        for wanted in one.requires or ():
            if not re.search(r";.*\bextra\b", wanted):
                found.pop(plain(re.match(r"[\w.-]+", wanted)[0]), None)
print(json.dumps([{"Name": one.metadata["Name"], "Version": one.version} for _, one in sorted(found.items())]))`
)

// About tells `pulumi about` which Python runs the program.
func (h *host) About(ctx context.Context, req *pulumirpc.AboutRequest) (*pulumirpc.AboutResponse, error) {
	python, err := readyEnvironment(ctx, req.GetInfo())
	if err != nil {
		return nil, err
	}
	said, err := python.asked(ctx, `import json, platform, sys
print(json.dumps([sys.executable, platform.python_version()]))`)
	if err != nil {
		return nil, err
	}
	var about [2]string
	if err := json.Unmarshal(said, &about); err != nil {
		return nil, err
	}
	return &pulumirpc.AboutResponse{Executable: about[0], Version: about[1]}, nil
}

// GetProgramDependencies lists what is installed beside the program; without transitive dependencies, only
// what nothing else there asks for.
func (h *host) GetProgramDependencies(
	ctx context.Context, req *pulumirpc.GetProgramDependenciesRequest,
) (*pulumirpc.GetProgramDependenciesResponse, error) {
	python, err := readyEnvironment(ctx, req.GetInfo())
	if err != nil {
		return nil, err
	}
	said, err := python.asked(ctx, listInstalled, strconv.FormatBool(req.GetTransitiveDependencies()))
	if err != nil {
		return nil, err
	}
	answer := &pulumirpc.GetProgramDependenciesResponse{}
	return answer, json.Unmarshal(said, &answer.Dependencies)
}

// GetRequiredPackages names the providers that the program's environment was made for.
func (h *host) GetRequiredPackages(
	ctx context.Context, req *pulumirpc.GetRequiredPackagesRequest,
) (*pulumirpc.GetRequiredPackagesResponse, error) {
	python, err := readyEnvironment(ctx, req.GetInfo())
	if err != nil {
		return nil, err
	}
	said, err := python.asked(ctx, findPlugins)
	if err != nil {
		return nil, fmt.Errorf("cannot tell which plugins the program needs: %w", err)
	}
	var plugins []plugin.PulumiPluginJSON
	if err := json.Unmarshal(said, &plugins); err != nil {
		return nil, err
	}
	answer := &pulumirpc.GetRequiredPackagesResponse{}
	for _, one := range plugins {
		if !one.Resource {
			continue // a library only, like the SDK itself
		}
		if one.Parameterization != nil || one.ExtensionParameterization != nil {
			return nil, fmt.Errorf("plugin %s is parameterized, which this language host does not know", one.Name)
		}
		answer.Packages = append(answer.Packages, &pulumirpc.PackageDependency{
			Name: one.Name, Kind: "resource", Version: one.Version, Server: one.Server,
		})
	}
	return answer, nil
}
