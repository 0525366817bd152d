# `just` is installed by `pip install -e ".[dev]"`; `just --list` shows the recipes.

python := ".venv/bin/python"

# make the virtual environment and install everything into it
setup:
    python3 -m venv .venv
    .venv/bin/pip install torch==2.13.0 -e ".[dev]"

# train with the given options: just train steps=50 advantage=zscore
train *options:
    {{python}} train.py {{options}}

# the fast test suite, two tests at a time (just test -n 0 for one process)
test *options:
    {{python}} -m pytest {{options}}

# every test, the slow ones too
test-all *options:
    {{python}} -m pytest -m "slow or not slow" {{options}}

# break the code in each way of tests/mutations.toml, and see that its test fails
mutate *options:
    {{python}} tests/mutate.py {{options}}

# style, types, and the layering of the modules
lint:
    {{python}} -m ruff check .
    {{python}} -m ruff format --check .
    {{python}} -m mypy
    .venv/bin/lint-imports

# style and types mended where a program can
fix:
    {{python}} -m ruff check --fix .
    {{python}} -m ruff format .

# all that has to hold before a change lands, in a fresh environment
ci:
    .ci/run

# the weights of three short runs on one thread: the same before and after a refactoring
bits folder="bits":
    {{python}} tests/bits.py {{folder}}

# compare the runs of a folder
tensorboard folder="runs":
    .venv/bin/tensorboard --logdir {{folder}}

# rebuild the embedded model from nothing
tiny-model folder="src/grouprl/data/tiny/model":
    {{python}} -m grouprl.data.tiny.build {{folder}}
