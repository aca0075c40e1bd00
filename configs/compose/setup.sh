#!/bin/sh
# Makes secrets/ for docker-compose.yml: random passwords, what Redis and
# ClickHouse need to check them (digests), and the provider's key, which it takes
# from the variable PROVIDER_KEY or asks for. What is there already stays. The
# folder is closed to other users of this machine; the files in it are readable,
# since each container has a user of its own.
set -eu
cd "$(dirname "$0")/../.."
umask 077
mkdir -p secrets

random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }
digest() { printf %s "$(cat "secrets/$1")" | sha256sum | cut -d' ' -f1; }

if [ ! -s secrets/provider_key ]; then
	key=${PROVIDER_KEY:-}
	if [ -z "$key" ] && [ -t 0 ]; then
		printf "The provider's API key (not shown): " >&2
		stty -echo; trap 'stty echo' EXIT
		read -r key
		stty echo; trap - EXIT; echo >&2
	fi
	[ -n "$key" ] || { echo "setup: set PROVIDER_KEY to the provider's API key, or run this in a terminal" >&2; exit 1; }
	printf %s "$key" > secrets/provider_key
fi
for name in redis_password clickhouse_password clickhouse_grafana_password grafana_password admin_token; do
	[ -s "secrets/$name" ] || random > "secrets/$name"
done

# The relay's user may do what it needs and no more; without a password PING alone.
cat > secrets/redis-users.acl <<END
user default on nopass resetkeys resetchannels -@all +ping
user relay on #$(digest redis_password) ~relay:* resetchannels +@connection +client|tracking +eval +evalsha +mget +get +set +setnx +del +expire +pexpire +hget +hset +hmget +hdel +hincrby +hgetall +hvals +hscan +zadd +zcard +zrangebyscore +zremrangebyscore +time +role +wait +cluster|slots +cluster|shards
END
cat > secrets/clickhouse-users.xml <<END
<clickhouse>
  <profiles><reading><readonly>2</readonly></reading></profiles>
  <users>
    <default remove="remove"/>
    <relay>
      <password_sha256_hex>$(digest clickhouse_password)</password_sha256_hex>
      <networks><ip>::/0</ip></networks>
      <profile>default</profile>
      <quota>default</quota>
    </relay>
    <grafana>
      <password_sha256_hex>$(digest clickhouse_grafana_password)</password_sha256_hex>
      <networks><ip>::/0</ip></networks>
      <profile>reading</profile>
      <quota>default</quota>
    </grafana>
  </users>
</clickhouse>
END
chmod 644 secrets/*
echo "secrets/ is complete; next: docker compose up --detach"
