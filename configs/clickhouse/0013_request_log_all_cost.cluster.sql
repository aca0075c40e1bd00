ALTER TABLE {{.Database}}.request_log_all{{.OnCluster}}
    MODIFY COLUMN cost_usd Decimal(18, 9) ALIAS toDecimal64(toDecimal128(ifNull(cost_nano, 0), 9) / 1000000000, 9)
