# make demo and make test work in a fresh clone: `setup` comes first, and installs only what is not there yet.
PYTHON ?= python3
STAMP := .venv/.installed

# glibc returns large freed blocks to the kernel, which must zero them again at the next allocation. A CPU training
# step allocates thousands of them; keeping the memory in the process makes training about twice as fast.
export MALLOC_MMAP_MAX_ = 0
export MALLOC_TRIM_THRESHOLD_ = 100000000000
export MALLOC_TOP_PAD_ = 268435456

.PHONY: setup demo test test-slow faults fuzz audit audit-fresh mutants test-end-to-end lint bases clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]"
	touch $@

# The main job, offline: 60,000 private digits in, a release folder in demo/release out.
demo: setup
	.venv/bin/sfumato demo

test: setup
	.venv/bin/python -m pytest -q -m "not slow and not end_to_end"

test-slow: setup
	.venv/bin/python -m pytest -q -m "slow and not end_to_end and not faults"

# Every system call of a run's life fails, tears or kills once (FAULT_STRIDE=7 for every seventh; the whole takes about ten minutes).
faults: setup
	.venv/bin/python -m pytest -q -s -m faults

# Do the mechanisms do what they say: replay on neighbours, statistics of noise and draws, canaries (docs/audit.md).
audit: setup
	.venv/bin/sfumato audit

# The same from new seeds and with 100 more neighbours for each model, for the night.
audit-fresh: setup
	.venv/bin/python -m sfumato.audit --fresh --more 100

# 10,000 spoilt files of every format that is read: none may crash, hang over 10 s or take over 2 GB. The last line is JSON.
fuzz: setup
	.venv/bin/python -m tests.fuzz.run --files 10000

# Every seeded bug of tests/mutants/ is put into a copy of the code; the check that its patch names must see it.
mutants: setup
	.venv/bin/python tests/mutants/run.py

test-end-to-end: setup
	.venv/bin/python -m pytest -q -m end_to_end

# Style, and the walls between the rooms (pyproject.toml, tool.importlinter).
lint: setup
	.venv/bin/ruff check .
	.venv/bin/lint-imports

# Train the bundled bases again from public packages (see recipes/README.md for times; needs apt-get and npm).
# The result goes to build/bases/; compare it before it replaces a folder of sfumato/data/bases/.
bases: setup
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,recipes]"
	.venv/bin/python -m recipes.make letters -o build/bases/letters
	.venv/bin/python -m recipes.make glyphs -o build/bases/glyphs
	.venv/bin/python -m recipes.make icons -o build/bases/icons

clean:
	rm -rf .pytest_cache .ruff_cache .hypothesis .import_linter_cache build
