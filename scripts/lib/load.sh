# shellcheck shell=bash
# What the scripts behind the Makefile begin with; the working folder is the repository's root.

. scripts/lib/say.sh
. scripts/lib/env.sh
. scripts/lib/docker.sh
. scripts/lib/secrets.sh
require_installation
