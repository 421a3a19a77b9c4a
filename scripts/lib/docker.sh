# shellcheck shell=bash
# Docker and Docker Compose as our scripts call them. Needs say.sh and env.sh.
# DOCKER_COMPOSE names another command, which may have arguments: "docker compose", "docker-compose".

# compose ARGUMENT...
compose() {
    local command
    read -ra command <<< "${DOCKER_COMPOSE:-docker compose}"
    "${command[@]}" "$@"
}

# require_installation: what needs .env says so before compose complains of forty unset names.
require_installation() {
    [ -f "$ENV_FILE" ] || die "there is no $ENV_FILE yet: run ./scripts/setup.sh first"
    command -v docker > /dev/null || die "docker is not installed: run ./scripts/setup.sh, which says what is needed"
}

# project_name: of the compose project, as compose names it.
project_name() { setting COMPOSE_PROJECT_NAME clinicpacs; }

# containers [FORMAT]: the project's containers, running or not, without those of `compose run`.
# `docker ps`, because the output of `compose ps` changed within the versions that we take.
containers() {
    local format=${1:-'{{.Names}}'}
    docker ps --all --filter "label=com.docker.compose.project=$(project_name)" \
        --filter label=com.docker.compose.oneoff=False --format "$format"
}

# is_running SERVICE
is_running() {
    [ -n "$(docker ps --quiet --filter "label=com.docker.compose.project=$(project_name)" \
        --filter label=com.docker.compose.oneoff=False --filter "label=com.docker.compose.service=$1")" ]
}

# version_at_least FOUND WANTED: 2.26.1-4 is at least 2.20.
version_at_least() {
    [ "$(printf '%s\n%s\n' "$2" "${1#v}" | sort -V | head -n 1)" = "$2" ]
}

# operator: whose shell this is, for the audit trail, where the container's number would say nothing.
operator() { printf 'CLINICPACS_OPERATOR=%s' "${SUDO_USER:-$(id -un)}"; }

# clinicpacs ARGUMENT...: our command in a container of its own, at the terminal where there is one.
clinicpacs() {
    local terminal=(--no-TTY)
    if [ -t 0 ] && [ -t 1 ]; then terminal=(); fi
    compose run --rm --no-deps "${terminal[@]}" --env "$(operator)" admin "$@"
}
