package deploytest

import (
	"io"
	"path/filepath"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

var kubernetes = filepath.Join(root, "configs", "kubernetes")

// objects decodes manifests strictly: an unknown kind, an unknown or repeated
// field and a wrong type are errors, as with `kubectl apply --validate=strict`.
func objects(text string) ([]runtime.Object, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, autoscalingv2.AddToScheme, networkingv1.AddToScheme, policyv1.AddToScheme, monitoring.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	var found []runtime.Object
	documents := yaml.NewDocumentDecoder(io.NopCloser(strings.NewReader(text)))
	for {
		buffer := make([]byte, 1<<20)
		n, err := documents.Read(buffer)
		if err == io.EOF {
			return found, nil
		} else if err != nil {
			return nil, err
		}
		object, _, err := decoder.Decode(buffer[:n], nil, nil)
		if err != nil {
			return nil, err
		}
		found = append(found, object)
	}
}

// manifests is what `kubectl apply -k configs/kubernetes` would send.
func manifests(t *testing.T) (string, []runtime.Object) {
	t.Helper()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), kubernetes)
	if err != nil {
		t.Fatalf("kustomize: %v", err)
	}
	text, err := built.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	found, err := objects(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return string(text), found
}

// one is the only object of its type and name.
func one[T runtime.Object](t *testing.T, all []runtime.Object, name string) T {
	t.Helper()
	for _, object := range all {
		if o, ok := object.(T); ok && (name == "" || object.(interface{ GetName() string }).GetName() == name) {
			return o
		}
	}
	t.Fatalf("no %T %s", *new(T), name)
	panic("unreachable")
}

func TestKubernetesManifestsFitTheirSchemasAndEachOther(t *testing.T) {
	_, all := manifests(t)
	deployment := one[*appsv1.Deployment](t, all, "relay")
	pod := deployment.Spec.Template
	relay := pod.Spec.Containers[0]
	ports := map[string]int32{}
	for _, port := range relay.Ports {
		ports[port.Name] = port.ContainerPort
	}
	selects := func(who string, selector map[string]string, of map[string]string) {
		t.Helper()
		if len(selector) == 0 || !labels.SelectorFromSet(selector).Matches(labels.Set(of)) {
			t.Errorf("%s selects %v, there is %v", who, selector, of)
		}
	}
	named := func(who string, port intstr.IntOrString) {
		t.Helper()
		if ports[port.StrVal] == 0 {
			t.Errorf("%s: the pod has no port %q", who, port.StrVal)
		}
	}
	selects("Deployment", deployment.Spec.Selector.MatchLabels, pod.Labels)
	selects("PodDisruptionBudget", one[*policyv1.PodDisruptionBudget](t, all, "relay").Spec.Selector.MatchLabels, pod.Labels)
	policy := one[*networkingv1.NetworkPolicy](t, all, "relay")
	selects("NetworkPolicy", policy.Spec.PodSelector.MatchLabels, pod.Labels)
	for _, rule := range policy.Spec.Ingress {
		for _, port := range rule.Ports {
			named("NetworkPolicy", *port.Port)
		}
	}
	for _, name := range []string{"relay", "relay-admin"} {
		service := one[*corev1.Service](t, all, name)
		selects("Service", service.Spec.Selector, pod.Labels)
		for _, port := range service.Spec.Ports {
			named("Service", port.TargetPort)
		}
	}
	for name, probe := range map[string]*corev1.Probe{"startup": relay.StartupProbe, "readiness": relay.ReadinessProbe, "liveness": relay.LivenessProbe} {
		named(name, probe.HTTPGet.Port)
	}
	target := one[*autoscalingv2.HorizontalPodAutoscaler](t, all, "relay").Spec.ScaleTargetRef
	if target.Kind != "Deployment" || target.Name != deployment.Name || deployment.Spec.Replicas != nil {
		t.Errorf("the autoscaler scales %v; replicas of the Deployment: %v", target, deployment.Spec.Replicas)
	}
	const drain = 600 // seconds, drain_timeout's default
	if grace := *pod.Spec.TerminationGracePeriodSeconds; grace < relay.Lifecycle.PreStop.Sleep.Seconds+drain {
		t.Errorf("the pod is killed after %d s, within its drain", grace)
	}

	monitor := one[*monitoring.ServiceMonitor](t, all, "relay")
	admin := one[*corev1.Service](t, all, "relay-admin")
	selects("ServiceMonitor", monitor.Spec.Selector.MatchLabels, admin.Labels)
	if monitor.Spec.Endpoints[0].Port != admin.Spec.Ports[0].Name {
		t.Errorf("the ServiceMonitor reads port %q", monitor.Spec.Endpoints[0].Port)
	}

	examples, err := objects(read(t, filepath.Join(kubernetes, "secrets.example.yaml")))
	if err != nil {
		t.Fatal(err)
	}
	secret := one[*corev1.Secret](t, examples, "relay-credentials")
	dir := t.TempDir()
	for key, value := range secret.StringData {
		write(t, filepath.Join(dir, key), value)
	}
	if _, ok := secret.StringData[monitor.Spec.Endpoints[0].Authorization.Credentials.Key]; !ok {
		t.Error("the ServiceMonitor's token is not in the Secret")
	}
	for _, volume := range pod.Spec.Volumes {
		if volume.Secret != nil && volume.Secret.SecretName != secret.Name {
			t.Errorf("the pod mounts the Secret %s", volume.Secret.SecretName)
		}
		if volume.ConfigMap != nil {
			config := one[*corev1.ConfigMap](t, all, volume.ConfigMap.Name)
			if config.Data["relay.yaml"] == "" {
				t.Error("the ConfigMap has no relay.yaml")
			}
		}
	}
	checkConfig(t, filepath.Join(kubernetes, "relay.yaml"), nil, "/run/secrets/relay/", dir+"/")
}

// TestKubernetesPodsAreRestricted, as the namespace demands (the Pod Security
// Standards' restricted profile).
func TestKubernetesPodsAreRestricted(t *testing.T) {
	_, all := manifests(t)
	spec := one[*appsv1.Deployment](t, all, "relay").Spec.Template.Spec
	if s := spec.SecurityContext; !*s.RunAsNonRoot || *s.RunAsUser == 0 || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("pod: %+v", s)
	}
	for _, c := range append(spec.InitContainers, spec.Containers...) {
		s := c.SecurityContext
		if *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || len(s.Capabilities.Drop) != 1 || s.Capabilities.Drop[0] != "ALL" {
			t.Errorf("%s: %+v", c.Name, s)
		}
		if c.Resources.Limits.Memory().IsZero() || c.Resources.Requests.Cpu().IsZero() {
			t.Errorf("%s: no memory limit or no CPU request", c.Name)
		}
		if !strings.Contains(c.Image, ":") {
			t.Errorf("%s: image %s without a tag", c.Name, c.Image)
		}
	}
}

// TestKubernetesCheckRefusesMistakes: a decoder that took anything would prove nothing.
func TestKubernetesCheckRefusesMistakes(t *testing.T) {
	good, _ := manifests(t)
	for name, change := range map[string][2]string{
		"unknown field": {"terminationGracePeriodSeconds:", "terminationGracePeriod:"},
		"unknown kind":  {"kind: PodDisruptionBudget", "kind: PodDisruption"},
		"wrong type":    {"minReplicas: 3", "minReplicas: three"},
		"old version":   {"apiVersion: policy/v1\n", "apiVersion: policy/v1beta1\n"},
		"monitor":       {"endpoints:", "endpoint:"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := strings.Replace(good, change[0], change[1], 1)
			if bad == good {
				t.Fatalf("the manifests do not have %q", change[0])
			}
			if _, err := objects(bad); err == nil {
				t.Error("accepted")
			}
		})
	}
}
