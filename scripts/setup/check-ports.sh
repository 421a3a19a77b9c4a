# shellcheck shell=bash
# The two published ports are free, or are our own nginx's from an earlier run.

step "Checking the ports"

# Whether something listens: the kernel's table, state 0A; needs no tool and no rights.
is_listened_on() {
    local port
    port=$(printf '%04X' "$1")
    awk -v port="$port" '$4 == "0A" && $2 ~ (":" port "$") { found = 1 } END { exit !found }' \
        /proc/net/tcp /proc/net/tcp6 2> /dev/null
}
is_our_own() {
    [ -n "$(docker ps --quiet --filter "publish=$1" \
        --filter "label=com.docker.compose.project=$(planned COMPOSE_PROJECT_NAME)")" ]
}
for name in HTTP_PORT HTTPS_PORT; do
    port=$(planned $name)
    if is_listened_on "$port" && ! is_our_own "$port"; then
        die "port $port ($name) is in use by another program" \
            "find it with: sudo ss -ltnp 'sport = :$port'" \
            "stop it, or take another port with: ./scripts/setup.sh --set $name=PORT"
    fi
done
ok "ports $(planned HTTP_PORT) and $(planned HTTPS_PORT) are free or ours"
