# make demo and make test work in a fresh clone: `setup` comes first, and installs only what is not there yet.
PYTHON ?= python3
STAMP := .venv/.installed

.PHONY: setup demo studio test test-slow test-browser test-browser-quick screenshots cluster faults storm fuzz audit audit-fresh mutants outside test-end-to-end lint types docs wheel-check bases clean


setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]"
	touch $@

# The main job, offline: 60,000 private digits in, a release folder in demo/release out.
demo: setup
	.venv/bin/sfumato demo

# The page that leads from a folder of images to a signed statement, on this machine alone (docs/studio.md); IMAGES=FOLDER for one outside your home.
studio: setup
	.venv/bin/sfumato studio $(IMAGES)

# Two processes of one thread each: twice as fast as one of two on small tensors. A file's tests share their fixtures.
test: setup
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -q -n 2 --dist loadfile -m "not slow and not end_to_end and not browser"

test-slow: setup
	.venv/bin/python -m pytest -q -m "slow and not end_to_end and not faults and not cluster and not browser"

# The studio in the Chromium (or Chrome) of this machine, with axe-core's rules: a few minutes. Screenshots lie in build/browser; the
# small ones are studio-*.png. What it needs comes from the registries once; where axe-core cannot be had, its check is skipped.
BROWSER := .venv/.browser-installed
AXE := axe-core@4.14.1
test-browser: $(BROWSER)
	.venv/bin/python -m pytest -q -rs -m browser tests/browser

# The pictures of docs/studio.md again, from that run.
screenshots: test-browser
	cp $(foreach name,images promise pictures hand-over,build/browser/studio-$(name).png) docs/pictures/

# Of these a wrong folder and the keyboard, in a minute: part of .ci/run where the browser and what drives it are there.
test-browser-quick: $(BROWSER)
	.venv/bin/python -m pytest -q -rs -m "browser and not slow" tests/browser

$(BROWSER): $(STAMP)
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,browser]"
	mkdir -p build/axe
	cd build/axe && tar -xzf "$$(npm pack --silent $(AXE))" package/axe.min.js || echo "no axe-core: its check will be skipped"
	touch $@

# The scripts of docs/cluster.md under Slurm, on two hosts that are network namespaces: one is killed. Linux, root, Debian's slurm-wlm and munge.
cluster: setup
	.venv/bin/python -m pytest -q -m cluster

# Every system call of a run's life fails, tears or kills once (FAULT_STRIDE=7 for every seventh; the whole takes about ten minutes).
faults: setup
	.venv/bin/python -m pytest -q -s -m faults

# Do the mechanisms do what they say: replay on neighbours, statistics of noise and draws, canaries (docs/audit.md).
audit: setup
	.venv/bin/sfumato audit

# The same from new seeds and with 100 more neighbours for each model, for the night.
audit-fresh: setup
	.venv/bin/python -m sfumato.auditing --fresh --more 100

# 10,000 spoilt files of every format that is read: none may crash, hang over 10 s or take over 2 GB. The last line is JSON.
fuzz: setup
	.venv/bin/python -m tests.fuzz.run --files 10000

# Every seeded bug of tests/mutants/ is put into a copy of the code; the check that its patch names must see it.
mutants: setup
	.venv/bin/python tests/mutants/run.py

# SIGKILL at every named point of a run and at random moments of a ledger's life; 8 writers on a cap; the time of a charge.
# Prints JSON lines; fails unless 20 kills landed in each state. EACH=1 KILLS=300 for a short one.
EACH ?= 20
KILLS ?= 1000
storm: setup
	mkdir -p build && rm -rf build/storm && mkdir build/storm
	cc -shared -fPIC -O1 -o build/shim.so tests/faults/shim.c -ldl
	LD_PRELOAD=build/shim.so OMP_NUM_THREADS=1 .venv/bin/python -m tests.faults.storm build/storm/runs --each $(EACH)
	OMP_NUM_THREADS=1 .venv/bin/python -m tests.faults.ledgers build/storm/ledgers --kills $(KILLS)
	rm -rf build/storm

# A release of each form in Pillow, datasets, mlcroissant, diffusers, readers of XMP and C2PA, Chromium (skipped where there is none),
# and through a hub on this machine.
outside: setup
	.venv/bin/python -m pytest -q tests/releases/test_outside.py tests/releases/test_hub.py

test-end-to-end: setup
	.venv/bin/python -m pytest -q -m end_to_end

# Types of privacy/ and gradients/, strict (pyproject.toml, tool.basedpyright). Node comes with the package.
types: setup
	.venv/bin/python -m basedpyright

# Style, types, and the walls between the rooms (pyproject.toml, tool.importlinter).
lint: setup types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check --quiet .
	.venv/bin/lint-imports

# The documentation as a site in build/site: open build/site/index.html. Installing the tools needs the network once; building does not.
# Strict: a link or a page that leads nowhere ends it. A script, style or font from elsewhere does, too (tests/test_site.py).
DOCS := .venv/.docs-installed
docs: $(DOCS)
	NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict --quiet
	.venv/bin/python tests/test_site.py build/site

$(DOCS): $(STAMP)
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	touch $@

# Build the wheel, install it into an empty environment, and run the demo's first steps there. DEPENDENCIES=fresh (the default)
# installs all of constraints.txt from the registry; DEPENDENCIES=borrowed lends those of .venv instead, for a quick check
# without downloads: it then shows what the wheel holds and declares, not that its dependencies can be downloaded.
DEPENDENCIES ?= fresh
wheel-check: setup
	rm -rf build/wheel build/lib build/bdist.* && mkdir -p build/wheel
	.venv/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps -w build/wheel .
	$(PYTHON) -m venv build/wheel/env
ifeq ($(DEPENDENCIES),borrowed)
	.venv/bin/python -c "import sys; print(*(p for p in sys.path if p.endswith('site-packages')), sep='\n')" > "$$(build/wheel/env/bin/python -c 'import site; print(site.getsitepackages()[0])')/borrowed.pth"
	build/wheel/env/bin/python -m pip uninstall --quiet --yes setuptools
	build/wheel/env/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --ignore-installed build/wheel/*.whl
else
	build/wheel/env/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt build/wheel/*.whl
endif
	$(PYTHON) .ci/wheel-check build/wheel/*.whl build/wheel/env/bin/python

# Train the bundled bases again from public packages (see recipes/README.md for times; needs apt-get and npm).
# The result goes to build/bases/; compare it before it replaces a folder of sfumato/data/bases/.
bases: setup
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,recipes]"
	.venv/bin/python -m recipes.make letters -o build/bases/letters
	.venv/bin/python -m recipes.make glyphs -o build/bases/glyphs
	.venv/bin/python -m recipes.make glyphs-pixels -o build/bases/glyphs-pixels
	.venv/bin/python -m recipes.make icons -o build/bases/icons
	.venv/bin/python -m recipes.make things -o build/bases/things

clean:
	rm -rf .pytest_cache .ruff_cache .hypothesis .import_linter_cache build
