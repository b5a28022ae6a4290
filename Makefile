# Everything that is run from a checkout. `make` alone lists the targets.
SHELL := /bin/bash
PY := .venv/bin/python
export PATH := $(CURDIR)/.venv/bin:$(PATH)

# Python that is type-checked, and YAML that Ansible reads.
TYPED := entropy lab library module_utils plugins .ci/steps
PLAYS := site.yml playbooks roles molecule inventories

# Marks of tests that need more than a checkout; other steps run them.
SLOW := lab or fleet or guest or golden or umockdev

# The unit tests run in two halves at once.
UNIT := pytest --quiet -m \"not ($(SLOW))\"
HALF := tests/ansible tests/broker tests/feeder tests/roles tests/transport

# Steps: name, the most seconds it may take, command. The bounds are three times and more what the
# steps take on an idle machine of two cores, for machines that others use too.
CHECK_STEPS = \
	'ruff 60 ruff check . .ci/steps' \
	'format 60 ruff format --check . .ci/steps' \
	'types 240 mypy $(TYPED)' \
	'yaml 60 yamllint --strict .' \
	'plays 240 ansible-lint --strict --nocolor $(PLAYS)' \
	'unit 400 .ci/both "$(UNIT) $(HALF)" "$(UNIT) $(HALF:%=--ignore %)"' \
	'usb 120 tests/usb/run $(MUST)'

# What `make check` uses where it is at hand, `make test` installs and insists on.
TOOL_STEPS = 'tools 300 $(PY) -m lab install tests/usb/packages.txt'
test: MUST := --must

# The tests of what a lab leaves behind come first, while nothing else of ours runs.
LAB_STEPS = \
	'packages 300 $(MAKE) --no-print-directory deb' \
	'image 400 $(PY) -m lab image && $(PY) -m lab image bullseye && $(PY) -m lab image trixie && $(PY) -m lab down' \
	'traces 300 pytest --quiet -m lab tests/lab' \
	'old-python 300 tests/py39/run' \
	'debian-13 300 tests/trixie/run' \
	'configurations 300 pytest --quiet -m lab --ignore=tests/lab' \
	'guest-usb 600 $(guest) tests/guest/test_usb.py' \
	'guest-boot 900 $(guest) -s tests/guest/test_first_boot.py' \
	'guest-clone 600 $(guest) -s tests/guest/test_clone.py' \
	'guest-gateway 400 $(guest) tests/guest/test_gateway.py' \
	'scenario-default 1500 $(call molecule,default)' \
	'scenario-lifecycle 1800 $(call molecule,lifecycle)' \
	'scenario-failover 1500 $(call molecule,failover)'

guest = pytest --quiet -m guest -o faulthandler_timeout=500

# Molecule's own files stay in the checkout; what a run that was cut short left is not believed.
molecule = rm -rf .cache/molecule/$(1) && mkdir -p .cache/molecule && \
	MOLECULE_EPHEMERAL_DIRECTORY=$(CURDIR)/.cache/molecule/$(1) MOLECULE_COMMAND_BORDERS=false \
	NO_COLOR=1 molecule test --scenario-name $(1)

# The lock: every extra that is worked with here. No index, no host, no path gets into the file.
lock: ## resolve the dependencies anew into requirements/dev.txt
	@python3 -m venv .cache/lock && .cache/lock/bin/pip install --quiet uv
	@.cache/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-annotate --no-header --all-extras pyproject.toml \
		-o requirements/dev.txt

.PHONY: help lock venv deb lab lab-down lab-status lab-ssh demo check test drills golden \
	bench-feeder bench-credentials guest-figures health-table false-alarms clean
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

drills: deb ## kill, pause and cut off parts of a fleet; medians of five into docs/failover.md
	@$(PY) -m lab down && $(PY) -m lab up
	@ansible-playbook -i inventories/lab -i molecule/failover/inventory site.yml
	@status=0; $(PY) -m tests.failover.table $(DRILLS) || status=$$?; $(PY) -m lab down; exit $$status

check: venv ## linters, types and unit tests: no containers, no root
	@.ci/steps $(CHECK_STEPS)

test: venv ## everything; needs root or sudo; ends any lab of this checkout
	@.ci/steps --around '$(PY) -m lab down' $(TOOL_STEPS) $(CHECK_STEPS) $(LAB_STEPS)

golden: venv ## the estimators of entropy assess against NIST's figures: minutes
	@pytest --quiet -m golden -o faulthandler_timeout=0 tests/assess

health-table: venv ## make the tables of docs/health-tests.md anew
	@$(PY) -m tests.health.table

bench-feeder: venv ## how fast the USB driver reads, and what a whole feeder costs
	@$(PY) -m lab install tests/usb/packages.txt
	@umockdev-wrapper $(PY) -m tests.usb.bench

bench-credentials: venv ## what issuing and publishing costs for 250, 1,000 and 4,000 VMs
	@$(PY) -m tests.ansible.bench

guest-figures: venv ## what guests gain from us, the table of docs/platforms.md: minutes
	@$(PY) -m tests.guest.figures

false-alarms: venv ## count the health tests' false alarms over 10^8 and 10^9 good samples
	@$(PY) -m tests.health.false_alarms 100000000
	@$(PY) -m tests.health.false_alarms 1000000000

clean: lab-down ## remove all that make made here, and the lab's images
	@$(PY) -m lab down --images
	@rm -rf dist build .cache .venv *.egg-info
