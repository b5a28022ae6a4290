# Everything that is run from a checkout. `make` alone lists the targets.
SHELL := /bin/bash
PY := .venv/bin/python

.PHONY: help venv
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

venv: ## .venv with the locked dependencies
	@requirements/install
