-- To read all shards. The relay writes to the shards' own tables, since a
-- deduplication token counts within one shard.
CREATE TABLE IF NOT EXISTS {{.Database}}.request_log_all{{.OnCluster}} AS {{.Database}}.request_log
ENGINE = {{.Distributed "request_log"}}
