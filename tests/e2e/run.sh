#!/usr/bin/env bash
# Brings the production stack up from a fresh copy of this repository and uses it: `make e2e [ONLY=backup]`.
#   E2E_OFFLINE=1    stand-ins from Debian's packages instead of the pinned images (also when these cannot be pulled)
#   E2E_KEEP=1       leaves the stack running; the next run uses it as it is
#   E2E_NAME, E2E_HTTPS_PORT, E2E_HTTP_PORT, E2E_SUBNET   a second stack beside another one
#   ONLY='PART ...'  only tests/e2e/test_*PART*.py
set -euo pipefail
cd "$(dirname "$0")/../.."
cache=$PWD/.cache/e2e
work=$PWD/build/e2e/${E2E_NAME:-stack}
engine_is_ours=no

say() { printf '\n== %s (%s s)\n' "$1" "$SECONDS"; }

find_engine() {
    if docker compose version >/dev/null 2>&1 && docker info >/dev/null 2>&1; then return; fi
    say "Starting a Docker engine of our own"
    export DOCKER_HOST=unix://$cache/engine/docker.sock DOCKER_CONFIG=$cache/engine/config
    if ! docker info >/dev/null 2>&1; then
        tests/e2e/images/engine.sh start "$cache/engine"
        engine_is_ours=yes
    fi
}

finish() {
    status=$?
    if [ "${E2E_KEEP:-}" != 1 ]; then
        rm -f "$work/.ready"
        if [ -f "$work/.env" ]; then
            (cd "$work" && docker compose --profile tools --profile letsencrypt down --volumes --timeout 20 >/dev/null 2>&1) || true
        fi
        if [ "$engine_is_ours" = yes ]; then tests/e2e/images/engine.sh stop "$cache/engine" || true; fi
    fi
    exit "$status"
}

choose_images() {
    local files=docker-compose.yml image images
    mapfile -t images < <(sed -n 's/^ *image: //p' docker-compose.yml | grep -v '^clinicpacs' | sort -u)
    # All of them: a registry that gives the first one may refuse the fifth (429).
    for image in "${images[@]}"; do
        if [ "${E2E_OFFLINE:-}" != 1 ] && ! docker pull --quiet "$image" >/dev/null 2>&1; then
            echo "$image cannot be pulled: stand-ins from Debian's packages take the images' place"
            E2E_OFFLINE=1
        fi
    done
    if [ "${E2E_OFFLINE:-}" = 1 ]; then
        files+=:tests/e2e/docker-compose.offline.yml
        say "Preparing the stand-ins"
        tests/e2e/images/prepare.sh "$cache"
    fi
    export E2E_COMPOSE_FILE=$files:tests/e2e/docker-compose.test.yml
}

copy_repository() { # as a fresh clone has it, with what is not committed yet
    rm -rf "$work"
    mkdir -p "$work"
    git ls-files --cached --others --exclude-standard -z \
        | while IFS= read -r -d '' file; do if [ -e "$file" ]; then printf '%s\0' "$file"; fi; done \
        | tar --null -T - -c | tar -x -C "$work"
}

trap finish EXIT
scripts/chromium.sh
find_engine
export E2E_WORK=$work
if [ ! -e "$work/.ready" ]; then
    copy_repository
    choose_images
fi
say "Testing"
tests=()
for part in ${ONLY:-_}; do tests+=(tests/e2e/test_*"$part"*.py); done
# shellcheck disable=SC2086
.venv/bin/python -m pytest -m e2e "${tests[@]}" ${PYTEST_ARGS:-}
