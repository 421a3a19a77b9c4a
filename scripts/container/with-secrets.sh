#!/bin/sh
# Runs a command with each file of /run/secrets as the variable of that name: for programs that read nothing else.
# In a service's own settings the values would be listed by `docker inspect` and `docker compose config`.
# usage: with-secrets.sh COMMAND [ARGUMENT...]
set -eu

for file in "${SECRETS_MOUNT:-/run/secrets}"/*; do
    [ -f "$file" ] || continue
    # By the shell's own means: some images have no other. A last line without an end is a line, too.
    IFS= read -r value < "$file" || [ -n "$value" ] || continue
    export "${file##*/}=$value"
done
unset file value
exec "$@"
