"""HAProxy and keepalived: the public entry, the pool of inference hosts, and the doors of loopback services."""

from pyinfra.api import deploy

from inventories import network
from inventories.certificates import AUTHORITY, certificate_of
from inventories.settings import Machine, Site
from tasks.operations import ensure
from tasks.wants import Check, File, Unit, rendered, verbatim

HAPROXY = "/etc/haproxy/haproxy.cfg"
NO_SERVICE = "/etc/haproxy/no-service.http"
KEEPALIVED = "/etc/keepalived/keepalived.conf"
PORTS = {
    "http": network.HTTP,
    "https": network.HTTPS,
    "api_door": network.API_DOOR,
    "ollama_door": network.OLLAMA_DOOR,
    "inference_pool": network.INFERENCE_POOL,
    "rest_door": network.REST_DOOR,
}


@deploy("Proxy")
def proxy(site: Site, machine: Machine) -> None:
    """One HAProxy per machine; on balancers also the address that moves between them."""
    own = certificate_of(site, machine, "proxy")
    web = certificate_of(site, machine, "web") if "balancer" in machine.roles else own
    ensure(
        name="Run HAProxy",
        files=[
            File(NO_SERVICE, verbatim("proxy/no-service.http")),
            File(
                HAPROXY,
                rendered(
                    "proxy/haproxy.cfg.j2",
                    machine=machine,
                    domain=site.domain,
                    proxy=own,
                    web=web,
                    authority=AUTHORITY,
                    ports=PORTS,
                    upload_bytes=site.application.upload_mb * 1024 * 1024 + 65536,
                    apps=site.having("app"),
                    inferences=site.having("inference"),
                    pushing=site.having("etcd") if "backup" in machine.roles else (),
                    doors=network.doors(site, machine),
                    places=site.inference.parallel,
                    no_service=NO_SERVICE,
                ),
            ),
        ],
        units=[
            Unit(
                "haproxy.service",
                reloads=(HAPROXY, NO_SERVICE, own.certificate, web.certificate, AUTHORITY),
            )
        ],
        check=Check("test -S /run/haproxy/admin.sock && systemctl is-active haproxy.service"),
    )

    if site.vip and "balancer" in machine.roles:
        peers = network.vrrp_peers(site, machine)
        ensure(
            name="Hold the common address",
            files=[
                File(
                    KEEPALIVED,
                    rendered(
                        "proxy/keepalived.conf.j2",
                        machine=machine,
                        vip=site.vip,
                        peers=peers,
                        priority=150 - site.having("balancer").index(machine),
                    ),
                )
            ],
            units=[Unit("keepalived.service", reloads=(KEEPALIVED,))],
        )
