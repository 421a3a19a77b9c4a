# shellcheck shell=bash
# Secrets as containers get them: each in a file of its own, which Compose mounts below /run/secrets. .env is where
# they are set. Needs say.sh and env.sh.
#
# Rights: users of containers differ, so each file may be read by all; the folder lets nobody else of the host in.

readonly SECRETS_PATH=secrets

# secret_names: those that docker-compose.yml mounts.
secret_names() { sed -nE '/^secrets:$/,/^$/ s/^  ([A-Z_]+):.*/\1/p' docker-compose.yml; }

# write_secrets: leaves the files as .env is now. Compose does not look into them; a new SECRETS_REVISION has it make
# the containers anew.
write_secrets() {
    local name value needed file
    needed=$(env_filled_by_setup .env.example)
    mkdir -p "$SECRETS_PATH"
    chmod 0700 "$SECRETS_PATH"
    while read -r name; do
        value=$(setting "$name") file=$SECRETS_PATH/$name
        if [ -z "$value" ] && grep -qxF "$name" <<< "$needed"; then
            die "$ENV_FILE does not set $name" "./scripts/setup.sh fills it in"
        fi
        if [ -f "$file" ] && [ "$(< "$file")" = "$value" ]; then continue; fi
        printf '%s' "$value" > "$file.new"
        chmod 0444 "$file.new"
        mv -f "$file.new" "$file"
    done < <(secret_names)
    # By what is there, so that a run that was broken off is made up for.
    value=$(stat -c %Y-%i "$SECRETS_PATH"/* | sort | sha256sum | cut -c 1-16)
    [ "$(env_get SECRETS_REVISION)" = "$value" ] || env_set SECRETS_REVISION "$value"
}
