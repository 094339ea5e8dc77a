# Each target makes the environment it needs. PYTHON chooses the interpreter; PIP_ARGS is passed to pip, e.g. to take
# torch from an index of CPU builds.
PYTHON ?= python3
PIP_ARGS ?=
FUZZ_SECONDS ?= 60
VENV := .venv
BIN := $(VENV)/bin
INSTALL = $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt $(PIP_ARGS)
# Tests that bear company; those of whole fleets want the machine to themselves.
SIDE_BY_SIDE := $(addprefix tests/,benchmarks cache cli config control core docs engine gateway instance kernels models planner \
	policy relay scheduler telemetry transport wire)
PROTO := prfaas/control/v1/fleet.proto
PROTOC = $(BIN)/python -m grpc_tools.protoc -I. --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc

.PHONY: demo test check bench kernels fuzz proto format clean

demo: $(VENV)/.demo  ## a two-datacenter fleet on this machine answers a few prompts
	@$(BIN)/prfaas demo $(ARGS)

test: $(VENV)/.dev  ## all tests, those that start real fleets included; ARGS chooses some
ifeq ($(strip $(ARGS)),)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(SIDE_BY_SIDE)
	$(BIN)/python -m pytest $(addprefix --ignore=,$(SIDE_BY_SIDE))
else
	$(BIN)/python -m pytest $(ARGS)
endif

check: $(VENV)/.dev  ## lint, format, types, layers, generated code, test rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.check_rules
	@rm -rf $(VENV)/proto && mkdir -p $(VENV)/proto
	$(PROTOC) --python_out=$(VENV)/proto --pyi_out=$(VENV)/proto --grpc_python_out=$(VENV)/proto --mypy_grpc_out=$(VENV)/proto $(PROTO)
	@diff -r --exclude=__pycache__ --exclude=__init__.py --exclude=*.proto prfaas/control/v1 $(VENV)/proto/prfaas/control/v1 \
		|| { echo "generated code is not current: run 'make proto' and commit"; exit 1; }

bench: $(VENV)/.dev  ## the benchmarks, one table each (benchmarks/README.md)
	$(BIN)/python -m benchmarks.transport $(ARGS)
	$(BIN)/python -m benchmarks.handover $(ARGS)
	$(BIN)/python -m benchmarks.engine $(ARGS)
	$(BIN)/python -m benchmarks.fairness $(ARGS)

kernels: $(VENV)/.dev  ## every GPU kernel compiled for sm_80, sm_90 and sm_100; no GPU needed
	$(BIN)/python -m benchmarks.kernels --compile $(ARGS)

fuzz: $(VENV)/.fuzz  ## bytes of a KV connection that no peer should send, FUZZ_SECONDS long
	$(BIN)/python -m tests.fuzz.wire --seconds $(FUZZ_SECONDS)

proto: $(VENV)/.dev  ## regenerate the gRPC code
	$(PROTOC) --python_out=. --pyi_out=. --grpc_python_out=. --mypy_grpc_out=. $(PROTO)

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .prfaas *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "prfaas needs Python 3.11 or newer; set PYTHON=…")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing prfaas and what it needs into $(VENV) (about a minute)"
	$(INSTALL) --editable '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing prfaas and its development tools into $(VENV)"
	$(INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.demo

$(VENV)/.fuzz: $(VENV)/.dev
	@echo "installing atheris into $(VENV)"
	$(INSTALL) --editable '.[fuzz]'
	@touch $@
