#!/usr/bin/env bash
# Builds the stand-in images from Debian's packages, as root on Debian. What is there already is not built again:
# the engine keeps layers by content, and CACHE keeps Debian's base and Keycloak's zip.
#   usage: prepare.sh CACHE
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=$(mkdir -p "$1" && cd "$1" && pwd)
keycloak_version=26.7.3
keycloak_sha256=27a6535553c3cdcd083872ba40629efafb3475e3b758e0c6f691395561dd0f1f
suite=trixie

import_debian() {
    docker image inspect clinicpacs-offline/debian:13 >/dev/null 2>&1 && return
    echo "Importing Debian 13"
    local root="$cache/debian"
    if [ ! -e "$root/etc/host-ca.crt" ]; then
        command -v debootstrap >/dev/null || apt-get install -y -qq --no-install-recommends debootstrap >/dev/null
        rm -rf "$root"
        debootstrap --variant=minbase "$suite" "$root" "$(mirror)" >"$cache/debootstrap.log"
        rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
        mkdir -p "$root"/var/cache/apt/archives/partial "$root"/var/lib/apt/lists/partial
        printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" && chmod 755 "$root/usr/sbin/policy-rc.d"
        # Builds trust what the host trusts.
        cp /etc/ssl/certs/ca-certificates.crt "$root/etc/host-ca.crt"
    fi
    tar -C "$root" -c . | docker import - clinicpacs-offline/debian:13 >/dev/null
}

mirror() { # the host's own
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | awk '!/security/ && !n++'
}

fetch_keycloak() {
    local zip="$cache/keycloak-$keycloak_version.zip"
    if ! echo "$keycloak_sha256  $zip" | sha256sum --check --status 2>/dev/null; then
        echo "Fetching Keycloak $keycloak_version"
        command -v mvn >/dev/null || apt-get install -y -qq --no-install-recommends maven default-jre-headless >/dev/null
        mvn -q -B org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy -DoutputDirectory="$cache" -Dmdep.stripVersion=true \
            -Dartifact="org.keycloak:keycloak-quarkus-dist:$keycloak_version:zip"
        mv "$cache/keycloak-quarkus-dist.zip" "$zip"
        echo "$keycloak_sha256  $zip" | sha256sum --check --status \
            || { echo "what was fetched is not Keycloak $keycloak_version as it is pinned here" >&2; exit 1; }
    fi
    mkdir -p "$cache/context"
    cp "$here"/* "$cache/context/"
    ln -f "$zip" "$cache/context/keycloak.zip"
}

fetch_keycloak
import_debian
echo "Building the stand-ins"
docker compose -f "$cache/context/docker-compose.yml" build --quiet
