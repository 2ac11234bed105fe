# OpenStack's Swift, a storage server with an S3 interface, as Debian has it: one of each part, on this machine alone.
# Wants: $here, the folder with server.crt and server.key; $port; $password.
set -e
if ! command -v swift-proxy-server > /dev/null; then
    # Debian would start all of it, with settings of its own.
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet=2 --no-install-recommends \
        swift-proxy swift-account swift-container swift-object memcached > /dev/null
fi
cd /etc/swift
cat > swift.conf << END
[swift-hash]
swift_hash_path_suffix = of
swift_hash_path_prefix = tests
[storage-policy:0]
name = one
default = yes
END
install -d -o swift -g swift "$here/swift" "$here/swift/disk"
at=6200
for part in object container account; do
    if [ ! -e $part.ring.gz ]; then
        swift-ring-builder $part.builder create 4 1 1
        swift-ring-builder $part.builder add r1z1-127.0.0.1:$at/disk 1
        swift-ring-builder $part.builder rebalance
    fi > /dev/null
    cat > $part-server.conf << END
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = $at
user = swift
devices = $here/swift
mount_check = false
workers = 1
fallocate_reserve = 0
[pipeline:main]
pipeline = $part-server
[app:$part-server]
use = egg:swift#$part
END
    at=$((at + 1))
done
install -m 400 -o swift "$here/server.key" s3.key
cat > proxy-server.conf << END
[DEFAULT]
bind_ip = 0.0.0.0
bind_port = $port
cert_file = $here/server.crt
key_file = /etc/swift/s3.key
user = swift
workers = 1
[pipeline:main]
pipeline = catch_errors cache s3api tempauth copy slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:11211
[filter:s3api]
use = egg:swift#s3api
[filter:tempauth]
use = egg:swift#tempauth
user_rag_keeper = $password .admin
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
END
