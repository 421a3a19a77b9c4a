# shellcheck shell=bash
# Docker is there, new enough, and answers.

readonly MINIMUM_ENGINE=20.10 MINIMUM_COMPOSE=2.20

step "Checking Docker"
command -v docker > /dev/null || die "docker is not installed" "see https://docs.docker.com/engine/install/"

daemon_hint() {
    case $1 in
        *"permission denied"*) echo "you may not use it: sudo usermod -aG docker $(id -un), then sign in again; or run this as root" ;;
        *) echo "start it: sudo systemctl enable --now docker" ;;
    esac
}
if ! engine=$(docker version --format '{{.Server.Version}}' 2>&1); then
    die "Docker's daemon does not answer" "${engine##*$'\n'}" "$(daemon_hint "$engine")"
fi
engine=${engine##*$'\n'}
version_at_least "$engine" $MINIMUM_ENGINE \
    || die "Docker engine $engine is too old: $MINIMUM_ENGINE or newer is needed"

composer=$(compose version --short 2> /dev/null) \
    || die "Docker Compose is not installed" "see https://docs.docker.com/compose/install/linux/ (the package docker-compose-plugin)"
version_at_least "$composer" $MINIMUM_COMPOSE \
    || die "Docker Compose $composer is too old: $MINIMUM_COMPOSE or newer is needed"
ok "Docker engine $engine, Docker Compose $composer"

for tool in openssl awk sed grep df stat; do
    command -v "$tool" > /dev/null || die "$tool is not installed, and these scripts need it"
done
