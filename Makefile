# Everything a contributor runs. Each target makes its own virtual environment when there is none.

VENV ?= .venv
OUT ?= runs/demo
ARGS ?=
JOBS ?= 4

# The CPU build of PyTorch, a tenth of the size of the CUDA build that PyPI serves on Linux.
# `make test TORCH_INDEX=` takes PyPI's build instead.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

# The first Python of at least 3.11 that can make a virtual environment; `make PYTHON=…` to choose.
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13 python; do \
  $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
  && echo $$p && break; done)

PY := $(VENV)/bin/python
PIP := $(PY) -m pip
STAMP := $(VENV)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK = 1

# Does the index answer? A short limit here, so that the download itself may take its time, and a
# deadline around it, because pip waits once for every address of a host behind a silent firewall.
PROBE = import subprocess, sys; \
  ask = [sys.executable, "-m", "pip", "index", "versions", "torch", "--index-url", "$(TORCH_INDEX)"]; \
  sys.exit(subprocess.run([*ask, "--timeout", "5", "--retries", "0"], capture_output=True, timeout=12).returncode)

.PHONY: help install test test-scale lowest demo bench docs lint format types constraints clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

install: $(STAMP) ## the environment in .venv, with everything the tests need

$(STAMP): pyproject.toml constraints.txt
	@python="$(PYTHON)"; test -n "$$python" || { \
	  echo "heedful needs Python 3.11 or newer with the venv module (on Debian: apt install python3-venv)" >&2; exit 2; }; \
	  "$$python" -m venv $(VENV)
	@if test -n "$(TORCH_INDEX)" && $(PY) -c '$(PROBE)' 2>/dev/null \
	    && $(PIP) install --quiet --no-deps --index-url "$(TORCH_INDEX)" -c constraints.txt torch; then :; \
	  else echo "installing PyTorch from the default index"; \
	    $(PIP) install --quiet --no-deps -c constraints.txt torch; fi
	$(PIP) install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

test: $(STAMP) ## the test suite (JOBS=4 processes, since browsers and servers leave cores idle; ARGS are passed to pytest)
	$(PY) -m pytest -q -n $(JOBS) --dist worksteal $(ARGS)

demo: $(STAMP) ## the whole loop on the embedded world, into runs/demo (ARGS are passed on)
	$(VENV)/bin/heedful demo --out $(OUT) $(ARGS)

bench: $(STAMP) .venv-bench-ppo/.installed ## seconds of each job beside TRL's, on tiny models (ARGS are passed on)
	@$(PY) -c 'import sys; from benchmarks.run import trl_python; sys.exit(not trl_python().exists())' \
	  || $(MAKE) .venv-bench/.installed
	$(PY) -m benchmarks.run all --size tiny $(ARGS)

# The first only where the environment above has another TRL than the pinned one. Both see the packages of that
# environment behind their own, so that PyTorch, where it is the pinned one, is not fetched again.
.venv-bench/.installed: benchmarks/requirements-trl.txt
.venv-bench-ppo/.installed: benchmarks/requirements-trl-ppo.txt
SITE = import site; print(site.getsitepackages()[0])
.venv-bench/.installed .venv-bench-ppo/.installed: $(STAMP)
	$(PY) -m venv --clear $(@D)
	$(PY) -c '$(SITE)' > "$$($(@D)/bin/python -c '$(SITE)')/installed.pth"
	$(@D)/bin/pip install --quiet $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -r $(filter %.txt,$^)
	@touch $@

# What pyproject.toml allows at least, before the packages of the environment above.
.venv-lowest/.installed: pyproject.toml .ci/lowest.py $(STAMP)
	$(PY) -m venv --clear $(@D)
	$(PY) -c '$(SITE)' > "$$($(@D)/bin/python -c '$(SITE)')/installed.pth"
	$(PY) .ci/lowest.py > $(@D)/lowest.txt
	$(@D)/bin/pip install --quiet -r $(@D)/lowest.txt
	@touch $@

LOWEST = tests/web/test_render.py tests/web/test_security.py tests/web/test_doors.py tests/web/test_waiting.py tests/store/test_db.py
lowest: .venv-lowest/.installed ## tests of pages and store with the lowest versions that pyproject.toml allows
	PYTHONPATH=src .venv-lowest/bin/python -m pytest -q -n $(JOBS) $(LOWEST)

# Ray and bitsandbytes beside the packages of the environment above.
.venv-scale/.installed: pyproject.toml $(STAMP)
	$(PY) -m venv --clear $(@D)
	$(PY) -c '$(SITE)' > "$$($(@D)/bin/python -c '$(SITE)')/installed.pth"
	$(PY) -c 'import tomllib; of = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]; print(*of["ray"], *of["quant"], sep="\n")' > $(@D)/needs.txt
	$(@D)/bin/pip install --quiet -r $(@D)/needs.txt
	@touch $@

# vLLM with its own PyTorch and transformers, and heedful: what its servers run in, and what has it in heedful's process.
.venv-vllm/.installed: .ci/vllm.txt .ci/vllm-needs.txt pyproject.toml $(STAMP)
	$(PY) -m venv --clear $(@D)
	@if test -n "$(TORCH_INDEX)" && $(PY) -c '$(PROBE)' 2>/dev/null; then \
	  $(@D)/bin/pip install --quiet --no-deps --index-url $(TORCH_INDEX) "$$(grep ^torch== .ci/vllm-needs.txt)"; fi
	$(@D)/bin/pip install --quiet -r .ci/vllm-needs.txt
	$(@D)/bin/pip install --quiet --no-deps --require-hashes -r .ci/vllm.txt
	$(@D)/bin/pip install --quiet -c .ci/vllm-needs.txt -e '.[lora]' pytest hypothesis beartype
	@touch $@

test-scale: .venv-scale/.installed .venv-vllm/.installed ## a Ray cluster of this machine whose parts are killed (HEEDFUL_KILLS=20), vLLM's servers, and vLLM in heedful's process
	PYTHONPATH=src .venv-scale/bin/python -m pytest -q -s -m ray tests/engine/test_ray.py $(ARGS)
	PYTHONPATH=src HEEDFUL_VLLM=.venv-vllm/bin/python .venv-scale/bin/python -m pytest -q -s -m vllm tests/engine/test_real_vllm.py $(ARGS)
	PYTHONPATH=src .venv-vllm/bin/python -m pytest -q -s -m vllm tests/engine/test_real_colocated.py $(ARGS)

docs: $(STAMP) ## the documentation as a site, into build/site; a link that leads nowhere is an error
	PYTHONPATH=src $(PY) docs/site.py
	$(VENV)/bin/zensical build --strict --clean

lint: $(STAMP) ## formatting and lint, changes nothing
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .

format: $(STAMP) ## mend formatting and what lint can mend
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

types: $(STAMP) ## type check of src and benchmarks
	$(VENV)/bin/pyright --pythonpath $(PY)

constraints: ## renew constraints.txt from a fresh environment
	rm -rf build/constraints && $(PYTHON) -m venv build/constraints
	build/constraints/bin/pip install --quiet $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) '.[dev]' setuptools
	{ sed -n '/^#/p' constraints.txt; build/constraints/bin/pip freeze --all | grep -v -e '^heedful' -e '^pip==' -e '^nvidia-' -e '^cuda-' -e '^triton==' \
	  | sed 's/+cpu$$//' | LC_ALL=C sort -f; } > build/constraints.txt
	mv build/constraints.txt constraints.txt

clean: ## remove the environment, caches and builds (runs/ is kept)
	rm -rf $(VENV) .venv-lowest .venv-scale .venv-vllm .venv-bench .venv-bench-ppo benchmarks/.cache build dist .pytest_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
