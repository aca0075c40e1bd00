package logs

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"streamrelay/configs"
	"streamrelay/telemetry/clickhouse"
)

// lookAgain is the time between the two looks that say that the rollup lacks
// rows: between the table and its view, an INSERT under way is in only one.
const lookAgain = time.Second

// checkRollup says which of hours (Unix seconds) the hourly rollup counts fewer
// requests of than there are rows, and what makes it whole. Sending a block
// again would not: only the server's memory of its token keeps the rows from
// being doubled, and from here nobody sees whether it still has that.
func checkRollup(ctx context.Context, c *configs.ClickHouse, tables []*table, hours map[int64]bool, warn func(string)) {
	kept := time.Now().Add(-c.UsageRetention).Unix()
	var list []int64
	for _, hour := range slices.Sorted(maps.Keys(hours)) {
		if hour > kept {
			list = append(list, hour)
		}
	}
	for _, t := range tables {
		for some := range slices.Chunk(list, hoursPerQuery) {
			text, err := t.checkRollup(ctx, some)
			if err != nil {
				warn(fmt.Sprintf("the hourly rollup was not compared with the rows: %v", err))
				return
			}
			if text != "" {
				warn(text)
			}
		}
	}
}

// hoursPerQuery keeps a statement below the least max_query_size of a server.
const hoursPerQuery = 1000

// checkRollup returns what is to be said of hours; "" where the rollup is whole.
func (t *table) checkRollup(ctx context.Context, hours []int64) (string, error) {
	lacking, err := t.lacking(ctx, hours)
	if err != nil || len(lacking) == 0 {
		return "", err
	}
	select {
	case <-time.After(lookAgain):
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if lacking, err = t.lacking(ctx, slices.Sorted(maps.Keys(lacking))); err != nil || len(lacking) == 0 {
		return "", err
	}
	statements, err := t.rebuild(ctx, slices.Sorted(maps.Keys(lacking)))
	if err != nil || statements == "" {
		return "", err
	}
	n := int64(0)
	for _, rows := range lacking {
		n += rows
	}
	return fmt.Sprintf("the hourly rollup usage_1h at %s lacks %d rows that request_log has: while no relay stores rows of these hours, make them anew there by\n%s",
		t.conn.Address(), n, statements), nil
}

// lacking returns how many requests the rollup lacks in each of hours; those of
// which it lacks none are not there.
func (t *table) lacking(ctx context.Context, hours []int64) (map[int64]int64, error) {
	var at, n proto.ColInt64
	lacking := make(map[int64]int64)
	in := joined(hours)
	statement := fmt.Sprintf("SELECT at, sum(n) AS n FROM ("+
		"SELECT toInt64(toUnixTimestamp(toStartOfHour(ts))) AS at, toInt64(count()) AS n FROM %s"+
		" WHERE ts >= fromUnixTimestamp64Milli(%d, 'UTC') AND ts < fromUnixTimestamp64Milli(%d, 'UTC') AND at IN (%s) GROUP BY at"+
		" UNION ALL SELECT toInt64(toUnixTimestamp(hour)) AS at, -toInt64(sum(requests)) AS n FROM %s WHERE at IN (%s) GROUP BY at"+
		") GROUP BY at HAVING n > 0", t.name("request_log"), hours[0]*1000, (hours[len(hours)-1]+3600)*1000, in, t.name("usage_1h"), in)
	err := t.conn.Select(ctx, statement, proto.Results{{Name: "at", Data: &at}, {Name: "n", Data: &n}}, func(rows int) error {
		for i := range rows {
			lacking[at[i]] = n[i]
		}
		return nil
	})
	return lacking, err
}

// rebuild returns the statements that make hours of the rollup anew out of the
// rows, as the view does; "" where there is no view. What is inserted then may
// be what was inserted before, so that it must not be taken for a repetition.
func (t *table) rebuild(ctx context.Context, hours []int64) (string, error) {
	var view proto.ColStr
	query := ""
	err := t.conn.Select(ctx, "SELECT as_select FROM system.tables WHERE database = "+clickhouse.Quote(t.database)+" AND name = 'usage_1h_mv'", proto.Results{{Name: "as_select", Data: &view}}, func(int) error {
		query = view.Row(0)
		return nil
	})
	if err != nil || query == "" {
		return "", err
	}
	in := "toUnixTimestamp(hour) IN (" + joined(hours) + ")"
	return fmt.Sprintf("ALTER TABLE %[1]s DELETE WHERE %[2]s SETTINGS mutations_sync = 2;\nINSERT INTO %[1]s SELECT * FROM (%[3]s) WHERE %[2]s SETTINGS insert_deduplicate = 0;",
		t.name("usage_1h"), in, query), nil
}

func joined(numbers []int64) string {
	text := make([]string, len(numbers))
	for i, n := range numbers {
		text[i] = strconv.FormatInt(n, 10)
	}
	return strings.Join(text, ",")
}
