// Strict reads manifests from standard input and decodes them like the Kubernetes API does, without
// unknown or repeated fields. Pods must meet the pod security standard "restricted", except those
// of the workloads that the arguments name. Objects of other projects, such as cert-manager, are
// skipped.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// foreign are the groups of other projects.
var foreign = []string{"cert-manager.io", "monitoring.coreos.com"}

func main() {
	if err := run(os.Stdin, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(in io.Reader, privileged []string) error {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return err
	}
	decoder := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	docs := yaml.NewYAMLReader(bufio.NewReader(in))
	var problems []error
	for {
		text, err := docs.Read()
		if errors.Is(err, io.EOF) {
			return errors.Join(problems...)
		} else if err != nil {
			return err
		}
		var kind metav1.TypeMeta
		if err := yaml.Unmarshal(text, &kind); err != nil {
			return err
		}
		if kind.Kind == "" {
			continue // only comments
		}
		if slices.Contains(foreign, kind.GroupVersionKind().Group) {
			continue
		}
		object, _, err := decoder.Decode(text, nil, nil)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", kind.Kind, err))
			continue
		}
		name, pod := podOf(object)
		if pod == nil || slices.Contains(privileged, name) {
			continue
		}
		restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
		result := policy.AggregateCheckResults(evaluator.EvaluatePod(restricted, &pod.ObjectMeta, &pod.Spec))
		if !result.Allowed {
			problems = append(problems, fmt.Errorf("%s %s is not restricted: %s", kind.Kind, name,
				strings.Join([]string{result.ForbiddenReason(), result.ForbiddenDetail()}, ": ")))
		}
	}
}

// podOf returns the name of a workload and its pods; nil if the object has none.
func podOf(object runtime.Object) (string, *corev1.PodTemplateSpec) {
	switch o := object.(type) {
	case *appsv1.Deployment:
		return o.Name, &o.Spec.Template
	case *appsv1.DaemonSet:
		return o.Name, &o.Spec.Template
	}
	return "", nil
}
