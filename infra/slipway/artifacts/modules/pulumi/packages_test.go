package main

import (
	"path/filepath"
	"testing"

	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

func TestProvidersAreThoseThatInstalledPackagesName(t *testing.T) {
	address, _ := engine(t)
	s := start(t, address)
	p := newProject(t, "")
	for name, said := range map[string]string{
		"pulumi":            `{"resource": false}`,
		"pulumi_kubernetes": `{"resource": true, "name": "kubernetes", "version": "4.25.0"}`,
		"pulumi_own":        `{"resource": true, "name": "own", "version": "1.0.0", "server": "https://plugins.example"}`,
	} {
		write(t, filepath.Join(p.packages(t), name, "pulumi-plugin.json"), said)
	}
	answer, err := s.GetRequiredPackages(in(t), &pulumirpc.GetRequiredPackagesRequest{Info: p.info})
	check(t, err)
	found := map[string]*pulumirpc.PackageDependency{}
	for _, one := range answer.GetPackages() {
		found[one.GetName()] = one
	}
	if len(answer.GetPackages()) != 2 ||
		!proto.Equal(found["kubernetes"], &pulumirpc.PackageDependency{Name: "kubernetes", Kind: "resource", Version: "4.25.0"}) ||
		found["own"].GetServer() != "https://plugins.example" {
		t.Error(answer)
	}

	write(t, filepath.Join(p.packages(t), "pulumi_tf", "pulumi-plugin.json"),
		`{"resource": true, "name": "tf", "parameterization": {"name": "x", "version": "1.0.0", "value": ""}}`)
	_, err = s.GetRequiredPackages(in(t), &pulumirpc.GetRequiredPackagesRequest{Info: p.info})
	contains(t, status.Convert(err).Message(), "plugin tf is parameterized, which this language host does not know")
}

func TestWhatIsInstalledIsListedWithoutPip(t *testing.T) {
	address, _ := engine(t)
	s := start(t, address)
	p := newProject(t, "")
	for name, more := range map[string]string{
		"shop-1.2.dist-info":         "Name: shop\nVersion: 1.2\nRequires-Dist: Gr_Pc>=1 ; python_version > '3'\nRequires-Dist: nice; extra == 'colour'\n",
		"gr.pc-1.80.dist-info":       "Name: gr.pc\nVersion: 1.80\n",
		"nice-3.dist-info":           "Name: nice\nVersion: 3\n",
		"leftover_nothing.dist-info": "Metadata-Version: 2.1\n",
	} {
		write(t, filepath.Join(p.packages(t), name, "METADATA"), more)
	}
	for transitive, wanted := range map[bool]string{true: "gr.pc 1.80, nice 3, shop 1.2, ", false: "nice 3, shop 1.2, "} {
		answer, err := s.GetProgramDependencies(in(t), &pulumirpc.GetProgramDependenciesRequest{
			Info: p.info, TransitiveDependencies: transitive,
		})
		check(t, err)
		listed := ""
		for _, one := range answer.GetDependencies() {
			listed += one.GetName() + " " + one.GetVersion() + ", "
		}
		if listed != wanted {
			t.Errorf("%v: %s", transitive, listed)
		}
	}
}

func TestAboutTellsTheProgramsPython(t *testing.T) {
	address, _ := engine(t)
	s := start(t, address)
	p := newProject(t, "")
	about, err := s.About(in(t), &pulumirpc.AboutRequest{Info: p.info})
	check(t, err)
	if about.GetExecutable() != filepath.Join(p.folder, "venv/bin/python") {
		t.Error(about)
	}
	contains(t, python()[2]+".", "python"+about.GetVersion()[:len(python()[2])-len("python")])
}
