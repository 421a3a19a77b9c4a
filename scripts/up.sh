#!/usr/bin/env bash
# Starts the platform and waits until every service is healthy. `--dev` adds docker-compose.dev.yml.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/load.sh
. scripts/lib/urls.sh

if [ "${1:-}" = --dev ]; then
    export COMPOSE_FILE
    COMPOSE_FILE=$(setting COMPOSE_FILE docker-compose.yml):docker-compose.dev.yml
fi

step "Starting the platform; the first start takes some minutes"
if ! compose up --detach --wait --wait-timeout "${UP_SECONDS:-900}"; then
    die "not every service is healthy" \
        "make status          which one" \
        "make logs SERVICE=   what it says"
fi
# Keycloak imports its realm once; .env may have changed since.
clinicpacs apply-realm || warn "Keycloak's realm was not compared with .env: if the address or a secret was changed, nobody can sign in"
step "Running"
show_urls
if [ "${1:-}" = --dev ]; then
    say "Prometheus                        http://127.0.0.1:9090"
    say "Orthanc (users: see .env)         http://127.0.0.1:8042"
fi
