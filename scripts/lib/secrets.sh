# shellcheck shell=bash
# Secrets as containers get them: each in a file of its own, which Compose mounts below /run/secrets. .env is where
# they are set. Needs say.sh and env.sh.
#
# Rights: users of containers differ, so each file may be read by all; the folder lets nobody else of the host in.

readonly SECRETS_PATH=secrets

# Which belong together: who reads one is started anew when its group has changed.
declare -rA SECRETS_OF=(
    [ARCHIVE]='^ARCHIVE_'
    [DATABASES]='_DB_PASSWORD$|^POSTGRES_PASSWORD$'
    [CLIENTS]='_CLIENT_SECRET$|^KEYCLOAK_ADMIN_|^GRAFANA_'
    [ALERTS]='^SMTP_PASSWORD$|^TELEGRAM_BOT_TOKEN$'
)

# secret_names: those that docker-compose.yml mounts.
secret_names() { sed -nE '/^secrets:$/,/^$/ s/^  ([A-Z_]+):.*/\1/p' docker-compose.yml; }

# write_secrets: leaves the files as .env is now.
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
        # One that was broken off left a file that not even its owner may write.
        rm -f "$file.new"
        printf '%s' "$value" > "$file.new"
        chmod 0444 "$file.new"
        mv -f "$file.new" "$file"
    done < <(secret_names)
}

# mark_secrets: Compose does not look into the files; it makes containers anew whose labels have changed.
mark_secrets() {
    local group name mark
    for group in "${!SECRETS_OF[@]}"; do
        # By a key, because labels are no secret, and a password that people chose can be guessed.
        mark=$({
            setting GRAFANA_SECRET_KEY
            secret_names | grep -E "${SECRETS_OF[$group]}" | while read -r name; do printf '%s=%s\n' "$name" "$(setting "$name")"; done
        } | sha256sum | cut -c 1-16)
        [ "$(env_get "SECRETS_$group")" = "$mark" ] || env_set "SECRETS_$group" "$mark"
    done
}
