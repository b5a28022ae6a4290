# Everything that is run from a checkout. `make` alone lists the targets.
SHELL := /bin/bash
PY := .venv/bin/python
export PATH := $(CURDIR)/.venv/bin:$(PATH)

# Python that is type-checked, and YAML that Ansible reads.
TYPED := entropy lab library module_utils plugins .ci/steps
PLAYS := site.yml playbooks roles molecule inventories

# Steps: name, the most seconds it may take, command.
CHECK_STEPS = \
	'ruff 30 ruff check . .ci/steps' \
	'format 30 ruff format --check . .ci/steps' \
	'types 90 mypy $(TYPED)' \
	'yaml 30 yamllint --strict .' \
	'plays 90 ansible-lint --strict --nocolor $(PLAYS)' \
	'unit 120 pytest --quiet -m "not lab and not fleet and not guest and not golden"'

# The tests of what a lab leaves behind come first: they want a machine without one.
LAB_STEPS = \
	'packages 180 $(MAKE) --no-print-directory deb' \
	'image 240 $(PY) -m lab image && $(PY) -m lab image bullseye && $(PY) -m lab down' \
	'traces 180 pytest --quiet -m lab tests/lab' \
	'old-python 120 tests/py39/run' \
	'configurations 180 pytest --quiet -m lab --ignore=tests/lab' \
	'guest-usb 300 pytest --quiet -m guest tests/guest' \
	'scenario-default 600 $(call molecule,default)'

# Molecule's own files stay in the checkout; what a run that was cut short left is not believed.
molecule = rm -rf .cache/molecule/$(1) && mkdir -p .cache/molecule && \
	MOLECULE_EPHEMERAL_DIRECTORY=$(CURDIR)/.cache/molecule/$(1) MOLECULE_COMMAND_BORDERS=false \
	NO_COLOR=1 molecule test --scenario-name $(1)

.PHONY: help venv deb lab lab-down lab-status lab-ssh demo check test golden \
	health-table false-alarms clean
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

venv: ## .venv with the locked dependencies
	@requirements/install

demo: venv ## a broker, a feeder and a client in one process: no root, no containers
	@.venv/bin/entropy demo

deb: venv ## the Debian packages, into dist/
	@$(PY) -m lab install packaging/build-deps.txt
	@packaging/build

lab: venv ## a fleet of containers on this machine, deployed and fed
	@$(PY) -m lab up
	@$(MAKE) --no-print-directory deb
	@ansible-playbook -i inventories/lab site.yml

lab-down: venv ## remove every trace of the lab but its images
	@$(PY) -m lab down

lab-status: venv ## what of the lab is there
	@$(PY) -m lab status

lab-ssh: venv ## a shell on a host of the lab: make lab-ssh HOST=vm1
	@ssh -t -F .lab/ssh_config $(or $(HOST),vm1)

check: venv ## linters, types and unit tests: no containers, no root
	@.ci/steps $(CHECK_STEPS)

test: venv ## everything; needs root or sudo; ends any lab of this checkout
	@.ci/steps --around '$(PY) -m lab down' $(CHECK_STEPS) $(LAB_STEPS)

golden: venv ## the estimators of entropy assess against NIST's figures: minutes
	@pytest --quiet -m golden -o faulthandler_timeout=0 tests/assess

health-table: venv ## make the tables of docs/health-tests.md anew
	@$(PY) -m tests.health.table

false-alarms: venv ## count the health tests' false alarms over 10^8 and 10^9 good samples
	@$(PY) -m tests.health.false_alarms 100000000
	@$(PY) -m tests.health.false_alarms 1000000000

clean: lab-down ## remove all that make made here, and the lab's images
	@$(PY) -m lab down --images
	@rm -rf dist build .cache .venv *.egg-info
