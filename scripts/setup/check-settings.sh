# shellcheck shell=bash
# The settings as they will be: all faults at once, before anything is written.

step "Checking the settings"
faults=()
fault() { faults+=("$1"); }

is_domain() {
    local label='[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?'
    [ ${#1} -le 253 ] && [[ $1 =~ ^$label(\.$label)*$ ]]
}
is_domain "$(planned DOMAIN)" \
    || fault "DOMAIN: $(planned DOMAIN) is no name of a server (letters, digits, hyphens and dots; no port, no https://)"
[[ $(planned PUBLIC_URL) =~ ^https://[A-Za-z0-9.-]+(:[0-9]+)?$ ]] \
    || fault "PUBLIC_URL: an origin is needed, as in https://pacs.example.org, without a slash at the end"

is_port() { [[ $1 =~ ^[1-9][0-9]{0,4}$ ]] && (($1 < 65536)); }
for name in HTTP_PORT HTTPS_PORT; do
    is_port "$(planned $name)" || fault "$name: $(planned $name) is no port"
done
[ "$(planned HTTP_PORT)" != "$(planned HTTPS_PORT)" ] || fault "HTTP_PORT and HTTPS_PORT are the same"

for name in PACS_UID PACS_GID; do
    [[ $(planned $name) =~ ^([1-9][0-9]{0,8})?$ ]] || fault "$name: a number other than 0 is needed"
done

[[ $(planned APPLICATION_SUBNET) =~ ^[0-9.]+/[0-9]+$ ]] \
    || fault "APPLICATION_SUBNET: a network is needed, as in 172.30.240.0/24"

for name in DATA_PATH DICOM_STORAGE_PATH BACKUP_PATH INBOX_PATH PROCESSED_PATH FAILED_PATH; do
    path=$(planned $name)
    case $path in
        '') [[ $name =~ ^(INBOX|PROCESSED|FAILED)_PATH$ ]] || fault "$name: a folder is needed" ;;
        # Without the slash compose takes it for the name of a volume; a colon ends the path for it.
        /* | ./* | ../*) [[ $path != *:* ]] || fault "$name: $path holds a colon" ;;
        *) fault "$name: $path must begin with / or ./" ;;
    esac
done

for name in "${!chosen[@]}"; do
    [[ ${chosen[$name]} != *[[:cntrl:]]* ]] || fault "$name: holds a control character or a line break"
done

if [ ${#faults[@]} -gt 0 ]; then die "${faults[0]}" "${faults[@]:1}"; fi

if [ -f "$ENV_FILE" ]; then
    while read -r name; do
        warn "$name in $ENV_FILE is no setting of this version"
    done < <(env_missing "$ENV_FILE" .env.example)
fi

while read -r name; do
    if [ -n "${!name:-}" ] && [ "${!name}" != "$(planned "$name")" ]; then
        warn "$name is set in your environment, too, and Docker Compose prefers that to $ENV_FILE: unset $name"
    fi
done < <(env_names .env.example)

# New passwords would not open the databases of an installation whose .env was lost.
if [ ! -f "$ENV_FILE" ]; then
    volumes=$(docker volume ls --quiet --filter "label=com.docker.compose.project=$(planned COMPOSE_PROJECT_NAME)")
    [ -z "$volumes" ] || die "there is no $ENV_FILE, but volumes of an installation are there: ${volumes//$'\n'/ }" \
        "their passwords stand in the .env that belongs to them: put it back (a backup holds it), or," \
        "if they hold nothing of worth any more, remove them with docker volume rm, and run this again"
fi
ok "settings are fine"
