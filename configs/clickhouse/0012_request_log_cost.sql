-- The cost in US dollars of any cost_nano: as a Decimal64 it overflowed from
-- 9.22 dollars on, before it was divided, and with it every SELECT of it.
ALTER TABLE {{.Database}}.request_log{{.OnCluster}}
    MODIFY COLUMN cost_usd Decimal(18, 9) ALIAS toDecimal64(toDecimal128(ifNull(cost_nano, 0), 9) / 1000000000, 9)
