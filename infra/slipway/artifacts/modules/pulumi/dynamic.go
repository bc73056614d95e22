package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/util/fsutil"
)

const (
	// the name under which the engine looks beside itself for the plugin of dynamic providers
	dynamicProvider = "pulumi-resource-pulumi-python"
	// what the engine puts before a runtime option that it hands to that plugin
	optionPrefix = "PULUMI_RUNTIME_"
)

// provideDynamically runs the SDK's server for dynamic providers with the program's own Python: the engine
// starts one, in the program's folder, for resources whose provider is a class of the program.
func provideDynamically() error {
	h, err := newHost()
	if err != nil {
		return err
	}
	program, err := os.Getwd()
	if err != nil {
		return err
	}
	project, err := fsutil.Searchup(program, "Pulumi.yaml")
	if errors.Is(err, fsutil.ErrNotFound) {
		project, err = filepath.Join(program, "Pulumi.yaml"), nil
	}
	if err != nil {
		return err
	}
	options := map[string]string{}
	for _, variable := range os.Environ() {
		if name, value, _ := strings.Cut(variable, "="); strings.HasPrefix(name, optionPrefix) {
			options[strings.ToLower(strings.TrimPrefix(name, optionPrefix))] = value
		}
	}
	python, err := resolve(filepath.Dir(project), program, options)
	if err != nil {
		return err
	}
	if err := python.ready(h.alive); err != nil {
		return err
	}
	command, err := python.Command(h.alive, "-u", "-m", "pulumi.dynamic", h.engine)
	if err != nil {
		return err
	}
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	if _, words, err := exit(run(h.alive, command)); err != nil {
		return err
	} else if words != "" && h.alive.Err() == nil {
		return fmt.Errorf("the server of dynamic providers %s", words)
	}
	return nil
}
