# One target per habit. Each does its own set-up in a fresh checkout; it needs make and Python >= 3.11, no more.
#
#   make demo     a gateway between a far store and a training loop, in a minute, without a cloud
#   make test     the whole suite; what cannot be installed is told, and the tests that need it are skipped (they fail
#                 with GATEWAY_TESTS_WHOLE=1)
#   make lint     ruff and mypy
#   make bench    what a request costs, beside nginx, rclone and the origin itself (loadtest/README.md)
#   make clean    removes the environments and the tools' caches; data, results and logs stay

MAKEFLAGS += --no-print-directory
BIN := .venv/bin
CLIENTS := $(basename $(notdir $(wildcard tests/clients/environments/*.txt)))
# Two processes: the suite waits for servers more than it computes. worksteal gives each a stretch of the suite to
# begin with, so that tests of one target stay together and most servers are started once.
PYTEST_ARGS ?= -n 2 --dist worksteal

# The suite starts hundreds of processes. Where Python is told to keep no bytecode (PYTHONDONTWRITEBYTECODE, as in many
# containers) each would compile the package again, half of what its start costs: hence compileall.

.PHONY: demo test lint bench clean clients nginx curl node

demo: .venv/.core
	@$(BIN)/gateway demo

test:
	@$(MAKE) -j4 .venv/.test clients curl .venvs/azurite/.installed
	@$(BIN)/python -m compileall -q gateway
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venvs/bench/.installed nginx
	@.venvs/bench/bin/python -m loadtest $(BENCH_ARGS)

clean:
	rm -rf .venv .venvs .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
	find gateway tests loadtest -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment of the package. Whoever has the larger one need not install the smaller.
.venv/.core: pyproject.toml .ci/venv.sh
	@echo "installing the gateway into .venv"
	@.ci/venv.sh .venv -e .
	@touch $@

.venv/.test: pyproject.toml .ci/venv.sh
	@echo "installing the gateway and what its tests need into .venv"
	@.ci/venv.sh .venv -e '.[test]'
	@touch $@ .venv/.core

# The distribution's Python first: it was optimised with a profile, as the one of the docker image was, and costs a hit
# a quarter less than what a version manager compiles with its defaults.
.venvs/bench/.installed: pyproject.toml .ci/venv.sh
	@echo "installing the gateway and what the load test needs into .venvs/bench"
	@mkdir -p .venvs
	@PYTHON="$${PYTHON:-/usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11}" \
	  .ci/venv.sh .venvs/bench -e '.[bench]'
	@touch $@

# Clients and origins whose dependencies do not go together with the package's, one environment each.
clients: $(CLIENTS:%=.venvs/%/.installed)

.venvs/%/.installed: tests/clients/environments/%.txt .ci/venv.sh
	@mkdir -p .venvs
	@if .ci/venv.sh .venvs/$* -r $< >.venvs/$*.log 2>&1; then \
	  touch $@; \
	else \
	  rm -rf .venvs/$*; \
	  echo "not installed: $* (why: .venvs/$*.log); its tests will be skipped"; \
	fi

# Azure's emulator, a program of Node's.
.venvs/azurite/.installed: tests/clients/environments/azurite.npm | node
	@mkdir -p .venvs
	@if npm install --prefix .venvs/azurite --no-audit --no-fund --no-save $$(cat $<) >.venvs/azurite.log 2>&1; then \
	  touch $@; \
	else \
	  rm -rf .venvs/azurite; \
	  echo "not installed: azurite (why: .venvs/azurite.log); the tests of azure origins will be skipped"; \
	fi

# apt(package, what is missed without it)
define apt
@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
  echo "installing $(1)"; \
  { apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(1); } \
    >/dev/null 2>&1 || echo "$(1) could not be installed: $(2)"; \
else \
  echo "$(1) is not installed: $(2)"; \
fi
endef

ifeq ($(shell PATH="$$PATH:/usr/sbin" command -v nginx),)
nginx: ; $(call apt,nginx,it is left out of the comparison)
else
nginx: ;
endif

ifeq ($(shell command -v curl),)
curl: ; $(call apt,curl,tests of presigned URLs from the command line fail)
else
curl: ;
endif

# After curl: apt runs once at a time.
ifeq ($(shell command -v node >/dev/null && command -v npm),)
node: curl ; $(call apt,nodejs npm,the tests of azure origins will be skipped)
else
node: ;
endif
