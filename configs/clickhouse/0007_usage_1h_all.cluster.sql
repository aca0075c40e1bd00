CREATE TABLE IF NOT EXISTS {{.Database}}.usage_1h_all{{.OnCluster}} AS {{.Database}}.usage_1h
ENGINE = {{.Distributed "usage_1h"}}
