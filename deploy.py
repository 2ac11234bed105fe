"""What each machine runs, in order."""

from pyinfra import host

from inventories.settings import Machine, Site
from tasks.access import access
from tasks.base import base
from tasks.firewall import firewall
from tasks.node_exporter import node_exporter
from tasks.operations import barrier
from tasks.packages import packages
from tasks.pki import pki
from tasks.preflight import preflight

site: Site = host.data.site
machine: Machine = host.data.machine

preflight(site=site, machine=machine)
barrier(name="Every machine fits its roles")

packages(site=site, machine=machine)
base(site=site, machine=machine)
access(settings=site.ssh)
firewall(site=site, machine=machine)
pki(site=site, machine=machine)
node_exporter(site=site, machine=machine)
barrier(name="Every machine is ready for its roles")
