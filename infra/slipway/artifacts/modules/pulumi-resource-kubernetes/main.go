// Command pulumi-resource-kubernetes is Pulumi's Kubernetes provider. Its own main package
// embeds files that are made at release time and are not part of the module; this one reads
// them from beside the program. It also ends with the engine that started it: the library
// looks after the engine every five minutes only, so that a killed one would leave it behind.
package main

import (
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/provider"
	"github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/version"
)

func main() {
	go endWith(os.Getppid())
	provider.Serve("kubernetes", version.Version, beside("schema.json"), beside("terraform-mapping.json"))
}

// endWith ends this program when its parent is another one than the given.
func endWith(parent int) {
	for os.Getppid() == parent {
		time.Sleep(time.Second)
	}
	os.Exit(1)
}

func beside(name string) []byte {
	program, err := os.Executable()
	if err != nil {
		log.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(filepath.Dir(program), name))
	if err != nil {
		log.Fatal(err)
	}
	return content
}
