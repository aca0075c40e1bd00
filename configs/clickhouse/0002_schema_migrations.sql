-- What has been applied here. There is no lock and no transaction for DDL in
-- ClickHouse: every statement of these files can be repeated.
CREATE TABLE IF NOT EXISTS {{.Database}}.schema_migrations{{.OnCluster}}
(
    version UInt32,
    name String,
    checksum String,
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC'),
    app_version String
)
ENGINE = {{.Everywhere "schema_migrations"}}
ORDER BY version
