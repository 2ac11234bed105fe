"""What each machine runs, in order."""

from pyinfra import host

from inventories.settings import Machine, Site
from tasks.access import access
from tasks.app import app
from tasks.backup import backup
from tasks.base import base
from tasks.chroma import chroma
from tasks.database import database
from tasks.etcd import etcd
from tasks.firewall import firewall
from tasks.node_exporter import node_exporter
from tasks.nvidia import nvidia
from tasks.ollama import ollama
from tasks.operations import barrier
from tasks.packages import packages
from tasks.pki import pki
from tasks.preflight import preflight
from tasks.proxy import proxy
from tasks.pushes import pushes

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

if "etcd" in machine.roles:
    etcd(site=site, machine=machine)
# Patroni elects through etcd, so every member of etcd comes first.
barrier(name="etcd holds a quorum")

if "database" in machine.roles:
    database(site=site, machine=machine)
barrier(name="PostgreSQL takes writes")

if machine.gpu:
    nvidia()
if "inference" in machine.roles:
    ollama(site=site, machine=machine)
if "app" in machine.roles:
    chroma(site=site, machine=machine)
if machine.roles & {"app", "balancer", "inference", "backup"}:
    proxy(site=site, machine=machine)
# The program is ready only when its database, its index and its inference pool answer.
barrier(name="Models, indexes and proxies answer")

if "app" in machine.roles:
    app(site=site, machine=machine)
barrier(name="The platform answers")

# Its canaries are rows of the application's schema.
if "backup" in machine.roles:
    backup(site=site, machine=machine)
barrier(name="The log is received")

# What is pushed has a repository by then.
if "etcd" in machine.roles and site.having("backup"):
    pushes(site=site, machine=machine)
