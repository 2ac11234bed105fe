"""A firewall whose only opening is for a network that nobody is in: what a mistyped `operators` does."""

from ipaddress import IPv4Network

from inventories.network import Opening
from tasks.firewall import filtered
from tasks.wants import rendered

wrong = Opening(22, (IPv4Network("192.0.2.0/24"),), "a mistyped network")
filtered(
    name="Lock the controller out",
    rules=rendered("firewall/nftables.conf.j2", openings=[wrong], vrrp_peers=[]),
)
