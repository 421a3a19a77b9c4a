#!/usr/bin/env bash
# Starts the platform and waits until every service is healthy. `--dev` adds docker-compose.dev.yml, `--recreate` starts
# every container anew.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/load.sh
. scripts/lib/urls.sh

if [ "${1:-}" = --dev ]; then
    export COMPOSE_FILE
    COMPOSE_FILE=$(setting COMPOSE_FILE docker-compose.yml):docker-compose.dev.yml
fi

# fingerprint: of the files that containers have mounted.
fingerprint() {
    find nginx ohif orthanc postgres monitoring scripts/certbot scripts/container -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c 1-16
}
write_secrets
mark_secrets
[ "$(env_get CONFIGURATION)" = "$(fingerprint)" ] || env_set CONFIGURATION "$(fingerprint)"

# is_healthy SERVICE
is_healthy() { containers '{{.Label "com.docker.compose.service"}} {{.Status}}' | grep -q "^$1 .*(healthy)"; }

options=(--detach --wait --wait-timeout "${UP_SECONDS:-900}" --remove-orphans)
step "Starting the platform; the first start takes some minutes"
# PostgreSQL makes its roles with its volume: a newer version may have more of them, and .env other passwords.
if compose up "${options[@]}" postgres; then
    compose exec --no-TTY postgres sh /with-secrets.sh bash /docker-entrypoint-initdb.d/10-databases.sh \
        || die "PostgreSQL does not take the roles and passwords of $ENV_FILE" "make logs SERVICE=postgres   what it says"
fi
if [ "${1:-}" = --recreate ]; then options+=(--force-recreate); fi
if ! compose up "${options[@]}"; then
    # Monitoring that does not start must not keep a clinic from its images.
    for service in nginx gateway importer keycloak orthanc postgres; do
        is_healthy "$service" || die "not every service is healthy" \
            "make status          which one" \
            "make logs SERVICE=   what it says"
    done
    warn "not every service is healthy, but what clinics and physicians need is: make status says which one"
fi
# Keycloak imports its realm once; .env may have changed since.
clinicpacs apply-realm || warn "Keycloak's realm was not compared with .env: if the address or a secret was changed, nobody can sign in"
step "Running"
show_urls
if [ "${1:-}" = --dev ]; then
    say "Prometheus                        http://127.0.0.1:9090"
    say "Orthanc (users: see .env)         http://127.0.0.1:8042"
fi
