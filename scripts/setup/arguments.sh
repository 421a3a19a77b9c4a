# shellcheck shell=bash
# What setup.sh was asked for. `chosen` holds the settings that the command line names.

declare -A chosen=()
pull=1

setup_help() {
    cat <<'TEXT'
usage: ./scripts/setup.sh [--domain NAME] [--set NAME=VALUE]... [--no-pull] [--yes]

Prepares this machine for the production stack: checks Docker, memory, disk and ports; writes .env with
secrets of its own; makes the folders and, if there is no certificate, a self-signed one; fetches and builds
the images. Safe to run again: it never changes a value, a folder or a certificate that is in use.

  --domain NAME      the server's name as browsers type it (asked for at the first run; localhost)
  --set NAME=VALUE   a setting of .env.example, such as --set DATA_PATH=/srv/pacs/data
  --no-pull          fetch and build no images now; `make up` then fetches what is missing
  --yes              ask nothing
TEXT
}

choose() {
    local name=${1%%=*}
    [[ $1 == *=* && $name =~ ^[A-Z][A-Z0-9_]*$ ]] || usage_error "--set wants NAME=VALUE, not ${1@Q}"
    env_has "$name" .env.example || usage_error "$name is no setting: .env.example lists them"
    chosen[$name]=${1#*=}
}

while [ $# -gt 0 ]; do
    case $1 in
        --domain=*) chosen[DOMAIN]=${1#*=} ;;
        --domain) [ $# -ge 2 ] || usage_error "--domain wants a name"; chosen[DOMAIN]=$2; shift ;;
        --set) [ $# -ge 2 ] || usage_error "--set wants NAME=VALUE"; choose "$2"; shift ;;
        --set=*) choose "${1#*=}" ;;
        --no-pull) pull='' ;;
        --yes | -y) YES=1 ;;
        --help | -h) setup_help; exit ;;
        *) usage_error "unknown argument ${1@Q}; --help tells what there is" ;;
    esac
    shift
done

# planned NAME: what the setting will be once setup is through.
planned() {
    if [ -n "${chosen[$1]+set}" ]; then printf '%s\n' "${chosen[$1]}"
    elif env_has "$1"; then env_get "$1"
    else env_get "$1" .env.example; fi
}

# https_origin DOMAIN PORT
https_origin() { if [ "$2" = 443 ]; then echo "https://$1"; else echo "https://$1:$2"; fi; }

if [ ! -f "$ENV_FILE" ] && [ -z "${chosen[DOMAIN]+set}" ] && [ -t 0 ] && ! is_yes "${YES:-}"; then
    read -r -p "Name of this server, as browsers will type it [localhost]: " answer
    chosen[DOMAIN]=${answer:-localhost}
fi
if [ -n "${chosen[DOMAIN]+set}" ]; then chosen[DOMAIN]=${chosen[DOMAIN],,}; fi
