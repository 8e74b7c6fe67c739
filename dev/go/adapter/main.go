// Command adapter is prometheus-adapter put together from its own packages, at the versions of Kubernetes that all
// programs of this module share. Upstream's main package ties it to a Kubernetes of its own, which costs a second
// compilation of all client libraries. It has the flags that manifests/monitoring uses.
package main

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/component-base/logs"
	"k8s.io/klog/v2"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/util"
	customexternalmetrics "sigs.k8s.io/custom-metrics-apiserver/pkg/apiserver"
	basecmd "sigs.k8s.io/custom-metrics-apiserver/pkg/cmd"
	"sigs.k8s.io/metrics-server/pkg/api"
	generatedopenapi "sigs.k8s.io/prometheus-adapter/pkg/api/generated/openapi"
	prom "sigs.k8s.io/prometheus-adapter/pkg/client"
	adaptercfg "sigs.k8s.io/prometheus-adapter/pkg/config"
	cmprov "sigs.k8s.io/prometheus-adapter/pkg/custom-provider"
	"sigs.k8s.io/prometheus-adapter/pkg/naming"
	resprov "sigs.k8s.io/prometheus-adapter/pkg/resourceprovider"
)

type adapter struct {
	basecmd.AdapterBase
	prometheusURL, configFile    string
	relistInterval, metricMaxAge time.Duration
}

const queryTimeout = 30 * time.Second

// withoutDeadline asks Prometheus without the caller's deadline, which upstream's client (0.12) sends as the parameter
// timeout with the wrong sign; Prometheus refuses the whole query for it. The HTTP client has a timeout of its own.
type withoutDeadline struct{ prom.Client }

func (c withoutDeadline) Series(ctx context.Context, i model.Interval, s ...prom.Selector) ([]prom.Series, error) {
	return c.Client.Series(context.WithoutCancel(ctx), i, s...)
}

func (c withoutDeadline) Query(ctx context.Context, at model.Time, s prom.Selector) (prom.QueryResult, error) {
	return c.Client.Query(context.WithoutCancel(ctx), at, s)
}

func (c withoutDeadline) QueryRange(ctx context.Context, r prom.Range, s prom.Selector) (prom.QueryResult, error) {
	return c.Client.QueryRange(context.WithoutCancel(ctx), r, s)
}

func main() {
	logs.InitLogs()
	defer logs.FlushLogs()
	a := &adapter{}
	a.Name = "prometheus-adapter"
	a.addFlags()
	if err := a.Flags().Parse(os.Args); err != nil {
		klog.Fatalf("flags: %v", err)
	}
	if err := a.serve(genericapiserver.SetupSignalContext()); err != nil {
		klog.Fatalf("prometheus-adapter: %v", err)
	}
}

func (a *adapter) addFlags() {
	a.Flags().StringVar(&a.prometheusURL, "prometheus-url", "http://localhost:9090", "address of Prometheus")
	a.Flags().StringVar(&a.configFile, "config", "", "rules that make metrics of Kubernetes out of series")
	a.Flags().DurationVar(&a.relistInterval, "metrics-relist-interval", 10*time.Minute, "how often to list series anew")
	a.Flags().DurationVar(&a.metricMaxAge, "metrics-max-age", 10*time.Minute, "how long a series counts as there")
	logs.AddFlags(a.Flags())
}

func (a *adapter) serve(ctx context.Context) error {
	rules, err := adaptercfg.FromFile(a.configFile)
	if err != nil {
		return err
	}
	base, err := url.Parse(a.prometheusURL)
	if err != nil {
		return err
	}
	prometheus := withoutDeadline{prom.NewClient(&http.Client{Timeout: queryTimeout}, base, http.Header{}, http.MethodGet)}
	a.describe()
	if err := a.addCustomMetrics(ctx, prometheus, rules); err != nil {
		return err
	}
	if err := a.addResourceMetrics(ctx, prometheus, rules); err != nil {
		return err
	}
	return a.Run(ctx)
}

func (a *adapter) describe() {
	names := openapinamer.NewDefinitionNamer(api.Scheme, customexternalmetrics.Scheme)
	a.OpenAPIConfig = genericapiserver.DefaultOpenAPIConfig(definitions, names)
	a.OpenAPIConfig.Info.Title = a.Name
	a.OpenAPIV3Config = genericapiserver.DefaultOpenAPIV3Config(definitions, names)
	a.OpenAPIV3Config.Info.Title = a.Name
}

// definitions are upstream's, under the names by which Kubernetes 1.35 asks for them too: io.k8s.... beside k8s.io/....
func definitions(ref common.ReferenceCallback) map[string]common.OpenAPIDefinition {
	found := generatedopenapi.GetOpenAPIDefinitions(ref)
	for name, definition := range maps.Clone(found) {
		found[util.ToRESTFriendlyName(name)] = definition
	}
	return found
}

func (a *adapter) addCustomMetrics(ctx context.Context, prometheus prom.Client, rules *adaptercfg.MetricsDiscoveryConfig) error {
	mapper, err := a.RESTMapper()
	if err != nil {
		return err
	}
	cluster, err := a.DynamicClient()
	if err != nil {
		return err
	}
	namers, err := naming.NamersFromConfig(rules.Rules, mapper)
	if err != nil {
		return err
	}
	provider, runner := cmprov.NewPrometheusProvider(mapper, cluster, prometheus, namers, a.relistInterval, a.metricMaxAge)
	runner.RunUntil(ctx.Done())
	a.WithCustomMetrics(provider)
	return nil
}

func (a *adapter) addResourceMetrics(ctx context.Context, prometheus prom.Client, rules *adaptercfg.MetricsDiscoveryConfig) error {
	mapper, err := a.RESTMapper()
	if err != nil {
		return err
	}
	provider, err := resprov.NewProvider(prometheus, mapper, rules.ResourceRules)
	if err != nil {
		return err
	}
	rest, err := a.ClientConfig()
	if err != nil {
		return err
	}
	client, err := metadata.NewForConfig(rest)
	if err != nil {
		return err
	}
	running := func(options *metav1.ListOptions) { options.FieldSelector = "status.phase=Running" }
	pods := metadatainformer.NewFilteredSharedInformerFactory(client, 0, corev1.NamespaceAll, running).
		ForResource(corev1.SchemeGroupVersion.WithResource("pods"))
	informers, err := a.Informers()
	if err != nil {
		return err
	}
	config, err := a.Config()
	if err != nil {
		return err
	}
	config.GenericConfig.EnableMetrics = false
	server, err := a.Server()
	if err != nil {
		return err
	}
	go pods.Informer().Run(ctx.Done())
	return api.Install(provider, pods.Lister(), informers.Core().V1().Nodes().Lister(), server.GenericAPIServer, nil)
}
