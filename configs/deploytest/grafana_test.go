package deploytest

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/heatmap"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/statetimeline"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// readDashboard reads a dashboard by the types that Grafana generates of its own
// schema: an unknown field, a wrong type and a missing field are errors, in the
// options of the panels and in Prometheus' queries, too.
func readDashboard(text string) (d dashboard.Dashboard, err error) {
	runtime := cog.NewRuntime()
	for _, panel := range []func() variants.PanelcfgConfig{
		heatmap.VariantConfig, stat.VariantConfig, statetimeline.VariantConfig, table.VariantConfig, timeseries.VariantConfig,
	} {
		runtime.RegisterPanelcfgVariant(panel())
	}
	runtime.RegisterDataqueryVariant(prometheus.VariantConfig())
	if err = d.UnmarshalJSONStrict([]byte(text)); isError(err) {
		return d, err
	}
	if err = d.Validate(); isError(err) {
		return d, err
	}
	return d, nil
}

// isError reports whether err says anything: the types return an empty list of
// errors, which is not nil, where all is well.
func isError(err error) bool {
	var list cog.BuildErrors
	return err != nil && !(errors.As(err, &list) && len(list) == 0)
}

func TestDashboardsAreWhatGrafanaReads(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "configs", "grafana", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards: %v", err)
	}
	uids := make(map[string]string)
	for _, file := range files {
		d, err := readDashboard(read(t, file))
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if d.Uid == nil || uids[*d.Uid] != "" || len(d.Panels) == 0 {
			t.Errorf("%s: uid %v, %d panels", file, d.Uid, len(d.Panels))
			continue
		}
		uids[*d.Uid] = file
	}
}

// TestDashboardCheckRefusesMistakes: types that took anything would prove nothing.
func TestDashboardCheckRefusesMistakes(t *testing.T) {
	good := read(t, filepath.Join(root, "configs", "grafana", "relay.json"))
	for name, change := range map[string][2]string{
		"field of a panel":     {`"gridPos"`, `"gridpos"`},
		"option of a panel":    {`"graphMode"`, `"graphMod"`},
		"field of a query":     {`"legendFormat"`, `"legend"`},
		"type of a threshold":  {`"value": 14.4`, `"value": "14.4"`},
		"value of a time":      {`"refresh": "30s"`, `"refresh": 30`},
		"custom of a panel":    {`"drawStyle": "line"`, `"drawStyle": 1`},
		"options of a heatmap": {`"cellGap"`, `"cellgap"`},
	} {
		t.Run(name, func(t *testing.T) {
			bad := strings.Replace(good, change[0], change[1], 1)
			if bad == good {
				t.Fatalf("relay.json does not have %s", change[0])
			}
			if _, err := readDashboard(bad); err == nil {
				t.Error("accepted")
			}
		})
	}
}
