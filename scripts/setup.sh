#!/usr/bin/env bash
# Prepares this machine for the production stack. Everything is checked before anything is changed, and it
# is safe to run again: after an upgrade, after a change of .env, or when it stopped half-way.
set -euo pipefail
cd "$(dirname "$0")/.."

if ((BASH_VERSINFO[0] < 4)); then
    echo "clinicpacs needs bash 4 or newer; this is $BASH_VERSION" >&2
    exit 1
fi

. scripts/lib/say.sh
. scripts/lib/env.sh
. scripts/lib/docker.sh
. scripts/setup/arguments.sh

. scripts/setup/check-docker.sh
. scripts/setup/check-settings.sh
. scripts/setup/check-machine.sh
. scripts/setup/check-ports.sh

. scripts/setup/settings.sh
. scripts/setup/folders.sh
. scripts/setup/certificates.sh
. scripts/setup/images.sh
. scripts/setup/next-steps.sh
