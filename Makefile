# The verbs a person types; CI types the same.
SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
export UV_PYTHON_DOWNLOADS := never
# A mirror of the site's own may show a certificate that only this computer's trust store knows.
export UV_SYSTEM_CERTS := true
export DEBIAN_FRONTEND := noninteractive
export PYINFRA_PROGRESS ?= off
export PYTHONUNBUFFERED := 1

SITE ?= lab
PYTHON := build/venv/dev/bin/python
UV_VERSION := 0.13.9
export UV := $(shell command -v uv || echo $(CURDIR)/build/uv/bin/uv)

# $(call timed,what it does,command): say what begins, and at the end how long it took.
define timed
	@echo "--> $(1)"; start=$$SECONDS; ( $(2) ); rc=$$?; \
	if [ $$rc = 0 ]; then echo "    $(1): $$(( SECONDS - start )) s"; else echo "    $(1): failed after $$(( SECONDS - start )) s" >&2; fi; exit $$rc
endef

.PHONY: client help setup demo test lint unit app-test live bench lab lab-down lab-list stand-in secrets secret keep-secret deploy docs release locks
.PHONY: test-recovery restore restored-end restore-document rebuild fetch-repositories drills offline-password
.PHONY: cluster switchover rolling-restart upgrade-database reinit pause resume remove-member

help: ## these lines
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

demo: setup lab stand-in ## the lab, the platform on it, the PostgreSQL manual in it, and a cited answer out of it
	@$(MAKE) secrets SITE=lab
	@$(MAKE) deploy SITE=lab
	$(call timed,load the manual and ask,$(PYTHON) -m tests.lab.demo)

test: setup lint unit app-test live ## everything that CI runs; KEEP_LAB=1 leaves the lab up

lint: setup ## format, lint, types, workflow files
	$(call timed,lint,set -e; build/venv/dev/bin/ruff format --check --quiet .; build/venv/dev/bin/ruff check --quiet .; \
	  build/venv/dev/bin/mypy --no-error-summary; \
	  build/venv/dev/bin/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml; \
	  build/venv/dev/bin/zizmor --quiet --offline .github/workflows)

unit: setup ## tests without a machine
	$(call timed,unit tests,$(PYTHON) -m pytest -q tests/unit)

app-test: setup build/venv/chroma/ready build/provider/ready | build/restic build/rest-server /usr/lib/postgresql /usr/bin/chromium ## the program on a real PostgreSQL and a real Chroma, its pages in a real browser
	$(call timed,app tests,$(PYTHON) -m pytest -q tests/app)

live: setup ## the fleet built anew, deployed, tested as its users meet it, and taken down; KEEP_LAB=1 leaves it up
	@$(MAKE) lab-down lab stand-in
	@$(MAKE) secrets SITE=lab
	$(call timed,live tests,rc=0; \
	  { $(PYTHON) -m pytest -v tests/live --site lab && $(PYTHON) -m pytest -q tests/lab/test_lifecycle.py; } || rc=$$?; \
	  [ -n "$(KEEP_LAB)" ] || $(MAKE) lab-down || rc=$$?; exit $$rc)

test-recovery: setup ## recoveries, long drills and second repositories, on the lab that runs: an hour, the site away at times
	$(call timed,recoveries,$(PYTHON) -m pytest -v -m recovery tests/live --site $(SITE))

PART ?= failover
bench: setup ## figures of the lab that runs: PART=failover [FAULT=name,name] [REPEATS=5], PART=pgbench
	@$(PYTHON) -m tests.bench $(PART) --fault '$(FAULT)' --repeats '$(REPEATS)'

lab: setup ## eight Debian 13 machines on this computer
	$(call timed,lab,$(PYTHON) -m tests.lab up)

lab-down: setup ## the lab gone without a trace
	$(call timed,lab down,$(PYTHON) -m tests.lab down)

lab-list: setup ## the lab's machines with state and address
	@$(PYTHON) -m tests.lab list

stand-in: setup ## the lab's stand-in for Ollama's archive, with real small models
	$(call timed,stand-in for Ollama,$(PYTHON) -m tests.lab.ollama build)

secrets: setup ## every secret that SITE lacks, encrypted
	@.venv/bin/python -m inventories.secrets $(SITE)

secret: setup ## one secret of SITE on standard output: NAME=admin-password
	@.venv/bin/python -m inventories.secrets $(SITE) $(or $(NAME),none)

keep-secret: setup ## a secret that somebody else made, from standard input: NAME=oidc-client-secret
	@.venv/bin/python -m inventories.secrets --keep $(SITE) $(or $(NAME),none)

offline-password: setup ## opens every backup repository: the age key from standard input, no file of the site is needed
	@.venv/bin/python -m inventories.escrow

deploy: setup ## pyinfra inventories/SITE deploy.py
	@test -f inventories/$(SITE) || { echo "SITE = $(SITE); a file inventories/$(SITE) is needed; ls inventories" >&2; exit 2; }
	$(call timed,deploy $(SITE),.venv/bin/pyinfra -y inventories/$(SITE) deploy.py)

# $(call typed,TO): what was typed in this command as TO=…, whatever it holds, as one word of the shell; what the
# environment happens to call TO means nothing.
typed = '$(if $(filter command,$(origin $(1))),$(subst ','\'',$(value $(1))))'

CLUSTER = @.venv/bin/python -m tasks.cluster $(SITE)

cluster: setup ## the database cluster: who leads, who follows how far behind, slots, etcd; JSON=1 for programs
	$(CLUSTER) $(if $(JSON),json,show)

switchover: setup ## another PostgreSQL leads: the best replica, or TO=db2
	$(CLUSTER) switchover $(filter-out '',$(call typed,TO))

rolling-restart: setup ## every PostgreSQL starts anew, one at a time, the primary last
	$(CLUSTER) rolling-restart

upgrade-database: setup ## newest minor versions of PostgreSQL, Patroni and etcd, one machine at a time
	$(CLUSTER) upgrade

reinit: setup ## fetch a broken replica's data anew: MEMBER=db2
	$(CLUSTER) reinit $(call typed,MEMBER)

pause: setup ## nobody takes over until resume
	$(CLUSTER) pause

resume: setup ## automatic failover works again
	$(CLUSTER) resume

remove-member: setup ## take a member away for good: MEMBER=db3
	$(CLUSTER) remove-member $(call typed,MEMBER)

RECOVERY = @.venv/bin/python -m tasks.recovery $(SITE)

restore: setup ## the database as it was: TO="2026-11-22 08:00" or latest, beside production; IN_PLACE=1 instead of it
	$(RECOVERY) restore --to=$(call typed,TO) --in-place=$(call typed,IN_PLACE) --confirm=$(call typed,CONFIRM)

restored-end: setup ## the restored copy gone from the backup host
	$(RECOVERY) end

rebuild: setup | /usr/bin/restic ## the whole site on empty machines: FROM=place of the repositories; asks for the escrow line
	$(RECOVERY) rebuild --from=$(call typed,FROM) --to=$(call typed,TO) --confirm=$(call typed,CONFIRM)

fetch-repositories: setup ## a new backup host gets what the second repository holds, or FROM=place of the repositories
	$(RECOVERY) fetch --from=$(call typed,FROM)

restore-document: setup ## one document of a moment, in again: TO= DOCUMENT=title, or COLLECTION=name [INTO=collection]
	$(RECOVERY) document --to=$(call typed,TO) --document=$(call typed,DOCUMENT) --collection=$(call typed,COLLECTION) \
	  --into=$(call typed,INTO)

drills: setup ## what the restore drills of SITE proved, as a table and as build/drills-SITE-HOST.html
	@.venv/bin/python -m tasks.drills $(SITE)

docs: setup ## docs/settings.md anew from the settings
	@.venv/bin/python -m inventories.describe > build/settings.md && mv build/settings.md docs/settings.md

client: setup ## build/rag_client-*.whl: the command rag and the Python client, for a colleague's computer
	@rm -rf build/client build/rag_client-*.whl && mkdir -p build/client/app && cp app/client/pyproject.toml build/client/ \
	  && cp -r app/client app/distances.py app/evaluate.py build/client/app/ && rm build/client/app/client/pyproject.toml
	@cd build/client && $(abspath $(PYTHON)) -c 'from setuptools.build_meta import build_wheel; build_wheel("..")' >build.log 2>&1 \
	  || { tail -5 build.log >&2; exit 1; }
	@echo "pip install $$(ls build/rag_client-*.whl), then: rag sign-in https://<domain>"

release: setup ## the archives that a deploy pushes
	$(call timed,release,.venv/bin/python -m tasks.release)

setup: .venv/ready build/venv/dev/ready ## the controller's own tools, from the locks

# What a deploy calls on the controller besides Python.
TOOLS := ssh zstd curl tar
build/tools:
	@mkdir -p build; for tool in $(TOOLS); do command -v $$tool >/dev/null || missing=1; done; \
	PATH=$$PATH:/sbin ldconfig -p | grep -q libgomp.so.1 || missing=1; \
	if [ -n "$$missing" ] && [ $$(id -u) != 0 ]; then \
	echo "tools = not all of $(TOOLS) libgomp1 are here; this needs them; sudo apt-get install openssh-client zstd curl tar libgomp1" >&2; exit 2; fi; \
	if [ -n "$$missing" ]; then echo "--> openssh-client zstd curl libgomp1 from Debian"; \
	apt-get -qq update && apt-get -qq -y --no-install-recommends install openssh-client zstd curl libgomp1 >/dev/null || exit 1; fi; touch $@

.venv/ready: requirements/controller.txt pyproject.toml build/tools | $(UV)
	$(call timed,controller's packages,$(call environment,.venv,requirements/controller.txt) && $(UV) pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable . && touch $@)

build/venv/dev/ready: requirements/dev.txt pyproject.toml | $(UV)
	$(call timed,developer's packages,$(call environment,build/venv/dev,requirements/dev.txt) && $(UV) pip install --quiet --python build/venv/dev/bin/python --no-deps --no-build-isolation --editable . && touch $@)

build/venv/chroma/ready: requirements/chroma.txt | $(UV)
	$(call timed,Chroma for tests,$(call environment,build/venv/chroma,requirements/chroma.txt) && touch $@)

# npm knows no other authorities than its own, unless told.
PROVIDER := tests/app/provider
build/provider/ready: $(PROVIDER)/package.json $(PROVIDER)/package-lock.json | /usr/bin/npm
	$(call timed,provider for tests,mkdir -p build/provider && cp $(PROVIDER)/package.json $(PROVIDER)/package-lock.json $(PROVIDER)/.npmrc build/provider/ \
	  && cd build/provider && NODE_EXTRA_CA_CERTS=$${NODE_EXTRA_CA_CERTS:-/etc/ssl/certs/ca-certificates.crt} npm ci --silent && touch ready)

environment = $(UV) venv --quiet --clear $(1) && $(UV) pip sync --quiet --python $(1)/bin/python --require-hashes $(2)

# A machine with nothing but git, make and Python gets the rest here.
$(UV):
	@echo "--> uv $(UV_VERSION) into build/uv"
	@python3 -c 'import venv, ensurepip' 2>/dev/null || { apt-get -qq update && apt-get -qq -y install python3-venv >/dev/null; }
	@python3 -m venv build/uv && build/uv/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

/usr/lib/postgresql:
	@echo "--> Debian's PostgreSQL, for the app tests"
	@apt-get -qq update && apt-get -qq -y --no-install-recommends install postgresql >/dev/null

/usr/bin/chromium:
	@echo "--> Debian's Chromium, for the tests of the pages"
	@apt-get -qq update && apt-get -qq -y --no-install-recommends install chromium fonts-dejavu-core >/dev/null

/usr/bin/restic:
	@echo "--> Debian's restic, which reads the repository"
	@apt-get -qq update && apt-get -qq -y --no-install-recommends install restic >/dev/null

# The backup hosts' own version, with the failings that the program knows; a developer's computer may have another one.
build/restic: | /usr/share/keyrings/debian-archive-keyring.gpg
	$(call timed,Debian 13's restic for the app tests,$(PYTHON) -m tests.lab.package restic $@)

build/rest-server: | /usr/share/keyrings/debian-archive-keyring.gpg
	$(call timed,Debian 13's rest-server for the app tests,$(PYTHON) -m tests.lab.package restic-rest-server $@)

/usr/share/keyrings/debian-archive-keyring.gpg:
	@apt-get -qq update && apt-get -qq -y --no-install-recommends install debian-archive-keyring >/dev/null

/usr/bin/npm:
	@echo "--> Debian's Node.js and npm, for the provider of the app tests"
	@apt-get -qq update && apt-get -qq -y --no-install-recommends install nodejs npm >/dev/null

COMPILE = $(UV) pip compile --quiet --universal --generate-hashes --no-emit-index-url --custom-compile-command "make locks"
locks: | $(UV) ## every lock anew, from the newest packages that fit
	$(COMPILE) --upgrade --python-version 3.11 pyproject.toml -o requirements/controller.txt
	$(COMPILE) --upgrade --python-version 3.11 app/requirements.in -o requirements/app.txt
	$(COMPILE) --upgrade --python-version 3.11 pyproject.toml app/requirements.in --group dev -c requirements/controller.txt -c requirements/app.txt -o requirements/dev.txt
	$(COMPILE) --upgrade --python-version 3.11 --group chroma --override requirements/chroma-overrides.txt -o requirements/chroma.txt
	$(COMPILE) --upgrade --no-deps --python-version 3.11 tests/lab/ollama/requirements.in -o requirements/lab-ollama.txt
