PYTHON ?= python3
VENV := .venv
PEERS := .venv-peers
PIP := $(VENV)/bin/pip --disable-pip-version-check
INSTAR := $(VENV)/bin/instar
PYTEST := $(VENV)/bin/python -m pytest

.PHONY: demo results test lint types bench bench-data bench-decode bench-alignment bench-serve bench-inside claims play shots test-page test-slow test-clients test-ray test-gpu traps clean help

help:
	@echo "make demo       raise a model from text to conversation on this machine, then talk with it"
	@echo "make play       look inside that model in a browser: chat, tokens, attention, layers, choice, training"
	@echo "make test       lint, types and the everyday test suite"
	@echo "make test-slow  the tests that take minutes;  make test-gpu  those that need an accelerator"
	@echo "make test-page  the glass box page in a browser;  make shots  its pictures in docs/glass"
	@echo "make traps      the scoreboard: what other tools got wrong, and whether it is kept out here"
	@echo "make bench      the benchmarks, each printing its table"
	@echo "make test-ray   data preparation and the server on a Ray cluster of this machine, which installs Ray"
	@echo "make test-clients  the server beside the oldest openai client, LangChain and llm, in venvs of their own"
	@echo "make bench-data  extraction, rules, copies, tokens, the whole recipe; wants DATA=FOLDER (an hour)"
	@echo "make bench-decode  decoding beside transformers, CTranslate2 and llama.cpp, in a venv of their own (hours)"
	@echo "make bench-alignment  SFT and DPO beside TRL's trainers, in the same venv (hours)"
	@echo "make bench-serve  the server beside its engine, transformers serve and llama.cpp's, in the same venv (an hour)"
	@echo "make bench-inside  what it costs to see every head of a GPT-2-sized model, beside 2 seconds and 1 GiB"
	@echo "make claims     what the textbook says, held against the demo's model and one of 24 layers (hours)"
	@echo "make results    the recipes of docs/results.md; those on real data want DATA=FOLDER (hours)"

demo: $(VENV)/.demo
	$(INSTAR) grow recipes/demo.yaml --out runs/demo

# The page of the last stage that lies there: make play MODEL=FOLDER takes another.
MODEL ?= runs/demo
play: $(VENV)/.demo
	test -e $(MODEL) || $(INSTAR) grow recipes/demo.yaml --out runs/demo
	$(INSTAR) serve --model $(MODEL) --glass.roots runs

# Recipes name their real data under data/, which is a link to wherever it lies.
DATA ?= ../shared/data
results: $(VENV)/.test
	test -e data || ln -s "$(DATA)" data
	for name in world-translate bert-small t5-spans; do $(INSTAR) grow recipes/$$name.yaml --out runs/$$name || exit 1; done
	for name in bert-reviews transformer-tiny-multi30k; do $(INSTAR) grow recipes/$$name.yaml --out runs/$$name || exit 1; done
	$(VENV)/bin/python benchmarks/order.py
	$(VENV)/bin/python benchmarks/real_eval.py data

test: lint types
	OMP_NUM_THREADS=1 $(PYTEST) -n 2 --dist worksteal

lint: $(VENV)/.test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/.test
	$(VENV)/bin/mypy

test-slow: $(VENV)/.test
	$(PYTEST) -m slow

test-ray: $(VENV)/.test
	$(PIP) install --quiet --editable ".[ray]" --constraint constraints.txt
	$(PYTEST) -m slow -k ray tests/data/refine/test_run.py
	$(PYTEST) -m slow tests/serve/test_cluster.py

# Each in a venv of its own: the oldest client wants an older httpx.
CLIENTS := .venv-clients
test-clients: $(VENV)/.test $(CLIENTS)/.clients
	INSTAR_OLD_OPENAI=$(CURDIR)/$(CLIENTS)/old/bin/python INSTAR_OTHER_CLIENTS=$(CURDIR)/$(CLIENTS)/other/bin/python \
		$(PYTEST) -m "slow or not slow" tests/serve/test_openai_client.py

# The browser is the system's own, /usr/bin/chromium; INSTAR_CHROMIUM names another.
test-page: $(VENV)/.test
	$(PYTEST) -m "page or (not slow and not gpu)" tests/serve/glass

shots: $(VENV)/.test
	$(VENV)/bin/python benchmarks/shots.py

test-gpu: $(VENV)/.test
	$(PYTEST) -m gpu

traps: $(VENV)/.test
	$(VENV)/bin/python tests/traps/scoreboard.py

bench: $(VENV)/.test
	$(VENV)/bin/python benchmarks/parallel.py
	$(VENV)/bin/python benchmarks/depth.py
	$(VENV)/bin/python benchmarks/recall.py
	$(VENV)/bin/python benchmarks/evidence.py
	$(VENV)/bin/python benchmarks/order.py

bench-data: $(VENV)/.test
	test -e data || ln -s "$(DATA)" data
	for name in extraction rules duplicates tokens prepare refined; do $(VENV)/bin/python benchmarks/$$name.py || exit 1; done

# Options of the script: make bench-decode DECODE="--models A --json decode.json"
DECODE ?=
bench-decode: $(VENV)/.test $(PEERS)/.peers
	$(VENV)/bin/python benchmarks/decode.py $(DECODE)

# Options of the script: make bench-alignment ALIGNMENT="--models S --json alignment.json"
ALIGNMENT ?=
bench-alignment: $(VENV)/.test $(PEERS)/.peers
	$(VENV)/bin/python benchmarks/alignment.py $(ALIGNMENT)

# Options of the script: make bench-serve SERVE="--quick"
SERVE ?=
bench-serve: $(VENV)/.test $(PEERS)/.peers
	$(VENV)/bin/python benchmarks/serve.py $(SERVE)

bench-inside: $(VENV)/.test
	$(VENV)/bin/python benchmarks/inside.py

# Beside the world's texts those of DATA, where they are.
REAL = $(wildcard $(addprefix $(DATA)/,entities/wikigold.jsonl entities/weibo_zh.jsonl syntax/en_ewt-ud-dev.conllu \
	syntax/zh_gsdsimp-ud-dev.conllu))
claims: $(VENV)/.test
	for name in demo deep; do $(INSTAR) grow recipes/$$name.yaml --out runs/$$name || exit 1; \
		$(INSTAR) eval --model runs/$$name/sft --claims --out runs/$$name/claims $(if $(REAL),--data $(REAL)) || exit 1; done

clean:
	rm -rf $(VENV) $(PEERS) $(CLIENTS) .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Each stamp is an installation from the lock; `test` brings everything that `demo` needs.
$(VENV)/.venv:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade "pip>=25"
	touch $@

$(VENV)/.demo: $(VENV)/.venv pyproject.toml constraints.txt
	$(PIP) install --quiet --editable ".[plot,serve]" --constraint constraints.txt
	touch $@

$(VENV)/.test: $(VENV)/.venv pyproject.toml constraints.txt
	$(PIP) install --quiet --editable ".[data,plot,serve,test]" --constraint constraints.txt
	touch $@ $(VENV)/.demo

$(CLIENTS)/.clients: tests/serve/clients/old.txt tests/serve/clients/other.txt
	for name in old other; do $(PYTHON) -m venv $(CLIENTS)/$$name \
		&& $(CLIENTS)/$$name/bin/pip install --quiet --requirement tests/serve/clients/$$name.txt || exit 1; done
	touch $@

# llama-cpp-python is compiled for this machine, which takes minutes.
$(PEERS)/.peers: benchmarks/peers.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet --upgrade "pip>=25"
	nice $(PEERS)/bin/pip install --quiet --requirement benchmarks/peers.txt
	touch $@
