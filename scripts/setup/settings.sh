# shellcheck shell=bash
# .env: what .env.example has and it does not, and what the command line chose. Values that are there stay.

step "Writing $ENV_FILE"
old_domain=$(env_get DOMAIN) old_url=$(env_get PUBLIC_URL) old_port=$(env_get HTTPS_PORT)

# The origin follows name and port unless someone has set it to something else.
if [ -z "${chosen[PUBLIC_URL]+set}" ] && { [ -n "${chosen[DOMAIN]+set}" ] \
    || [ "${old_url:-https://localhost}" = "$(https_origin "${old_domain:-localhost}" "${old_port:-443}")" ]; }; then
    chosen[PUBLIC_URL]=$(https_origin "$(planned DOMAIN)" "$(planned HTTPS_PORT)")
fi

if [ ! -f "$ENV_FILE" ]; then
    (umask 077 && cat .env.example > "$ENV_FILE")
    ok "$ENV_FILE made of .env.example"
fi
if [ "$(stat -L -c %a "$ENV_FILE")" != 600 ]; then
    chmod 600 "$ENV_FILE"
    ok "$ENV_FILE is now readable for its owner only"
fi

added=()
while read -r name; do
    [ -z "$(tail -c 1 "$ENV_FILE")" ] || echo >> "$ENV_FILE"
    { echo && env_with_comment "$name" .env.example; } >> "$ENV_FILE"
    added+=("$name")
done < <(env_missing .env.example "$ENV_FILE")
[ ${#added[@]} = 0 ] || ok "new in this version, added: ${added[*]}"

for name in "${!chosen[@]}"; do
    [ "$(env_get "$name")" != "${chosen[$name]}" ] || continue
    env_set "$name" "${chosen[$name]}"
    if [[ $name =~ PASSWORD|SECRET|TOKEN ]]; then ok "$name set"; else ok "$name=${chosen[$name]}"; fi
done

# renewed NAME OLD NEW: a default of older versions that does not do any more; a value of one's own stays.
renewed() {
    [ "$(env_get "$1")" = "$2" ] && [ -z "${chosen[$1]+set}" ] || return 0
    env_set "$1" "$3"
    ok "$1=$3, it was $2, the default of older versions"
}
# Who is removed in Keycloak's own pages kept access for as long.
renewed ACCESS_TOKEN_SECONDS 300 30
# Frames were kept on a disk; they are in memory now.
renewed FRAME_CACHE_SIZE 10g 1g

# As root the services get a number of their own; otherwise whoever runs this owns what they write.
numbers=("$(id -u)" "$(id -g)")
if [ "${numbers[0]}" = 0 ]; then numbers=(10001 10001); fi
filled=0
while read -r name; do
    [ -z "$(env_get "$name")" ] || continue
    case $name in
        PACS_UID) env_set PACS_UID "${numbers[0]}" && ok "PACS_UID=${numbers[0]}" ;;
        PACS_GID) env_set PACS_GID "${numbers[1]}" && ok "PACS_GID=${numbers[1]}" ;;
        DOCKER_ROOT) env_set DOCKER_ROOT "$docker_root" && ok "DOCKER_ROOT=$docker_root" ;;
        *) env_set "$name" "$(random_secret 40)" && filled=$((filled + 1)) ;;
    esac
done < <(env_filled_by_setup .env.example)
[ $filled = 0 ] || ok "$filled secrets generated"

. scripts/setup/apart.sh
. scripts/setup/renamed.sh
ok "$ENV_FILE is complete"
