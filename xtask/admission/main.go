// Holds objects against custom resource definitions with the code of the Kubernetes API server: structure, unknown
// fields and CEL rules. Arguments: the file of the definitions, then folders of YAML files.
package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"istio.io/istio/pkg/config/crd"
	"istio.io/istio/pkg/test/util/yml"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

func main() {
	validator, err := crd.NewValidatorFromFilesWithOptions(os.Args[1:2], crd.WithoutCRDValidation())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	// Kinds of others, such as Namespaces, have no definition.
	validator.SkipMissing = true
	checked, wrong := 0, 0
	for _, folder := range os.Args[2:] {
		err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || filepath.Ext(path) != ".yaml" {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, document := range yml.SplitString(string(text)) {
				object := &unstructured.Unstructured{}
				if err := yaml.Unmarshal([]byte(document), object); err != nil || object.GetKind() == "" {
					continue
				}
				checked++
				if err := validator.ValidateCustomResource(object); err != nil {
					wrong++
					fmt.Printf("%s: %v\n", path, err)
				}
			}
			return nil
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
	}
	fmt.Printf("%d objects, %d refused\n", checked, wrong)
	if wrong > 0 {
		os.Exit(1)
	}
}
