CREATE TABLE IF NOT EXISTS {{.Database}}.request_bodies_all{{.OnCluster}} AS {{.Database}}.request_bodies
ENGINE = {{.Distributed "request_bodies"}}
