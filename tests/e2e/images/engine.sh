#!/usr/bin/env bash
# A Docker engine of our own, where none runs: as root on Debian, from packages, all under one folder.
#   usage: engine.sh start FOLDER   then DOCKER_HOST=unix://FOLDER/docker.sock DOCKER_CONFIG=FOLDER/config
#          engine.sh stop FOLDER
set -euo pipefail
folder=$(mkdir -p "$2" && cd "$2" && pwd)
pid_file=$folder/pid

running() { [ -s "$pid_file" ] && kill -0 "$(cat "$pid_file")" 2>/dev/null; }

install_engine() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null \
        || { echo "there is no Docker engine, and one can be installed only as root on Debian" >&2; exit 1; }
    command -v dockerd >/dev/null \
        || apt-get install -y -qq --no-install-recommends docker.io iptables >/dev/null
}

install_compose() { # Debian 12 has none; that of Debian 13 is one static binary
    local plugin=$folder/config/cli-plugins/docker-compose
    if [ ! -x "$plugin" ]; then
        mkdir -p "$folder/config/cli-plugins" "$folder/apt/lists/partial" "$folder/apt/archives/partial"
        local mirror key=/usr/share/keyrings/debian-archive-keyring.gpg
        mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | awk '!/security/ && !n++')
        echo "deb [signed-by=$key] $mirror trixie main" >"$folder/apt/sources.list"
        local options=(-qq -o "Dir::Etc::SourceList=$folder/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null
            -o "Dir::State::Lists=$folder/apt/lists" -o APT::Sandbox::User=root)
        apt-get "${options[@]}" update
        (cd "$folder/apt" && apt-get "${options[@]}" download docker-compose && dpkg -x docker-compose_*.deb tree)
        cp "$folder/apt/tree/usr/libexec/docker/cli-plugins/docker-compose" "$plugin"
    fi
}

# Chromium breaks off every load when an interface of the host gets an address, as each new container's does.
no_ipv6_for_new_interfaces() { echo "$1" >/proc/sys/net/ipv6/conf/default/disable_ipv6 2>/dev/null || true; }

start() {
    install_engine
    install_compose
    running && return
    no_ipv6_for_new_interfaces 1
    # Its own session: an interrupted test run must not take containers down half way.
    setsid dockerd -H "unix://$folder/docker.sock" --data-root "$folder/data" --exec-root "$folder/exec" -p "$pid_file" \
        >"$folder/log" 2>&1 </dev/null &
    for _ in $(seq 120); do
        docker -H "unix://$folder/docker.sock" version >/dev/null 2>&1 && return
        sleep 0.5
    done
    tail -5 "$folder/log" >&2
    echo "the Docker engine did not start: $folder/log" >&2
    exit 1
}

stop() {
    running || return 0
    local pid
    pid=$(cat "$pid_file")
    kill "$pid"
    no_ipv6_for_new_interfaces 0
    timeout 60 tail --pid="$pid" -f /dev/null
}

case "$1" in
    start) start ;;
    stop) stop ;;
    *) sed -n 2,5p "$0" >&2 && exit 2 ;;
esac
