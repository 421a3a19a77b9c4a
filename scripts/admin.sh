#!/usr/bin/env bash
# The make targets for clinics and users: their arguments come in the environment, so that no shell and no
# make ever reads a name as anything but a name.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/load.sh

# need USAGE NAME...: all of them have values.
need() {
    local usage=$1 name missing=()
    shift
    for name in "$@"; do [ -n "${!name:-}" ] || missing+=("$name"); done
    [ ${#missing[@]} = 0 ] || usage_error "missing: ${missing[*]}
usage: make $usage"
}

case ${1:-} in
    add-clinic)
        need 'add-clinic CLINIC_ID=northside CLINIC_NAME="Northside Clinic"' CLINIC_ID CLINIC_NAME
        clinicpacs add-clinic -- "$CLINIC_ID" "$CLINIC_NAME"
        ;;
    deactivate-clinic)
        need 'deactivate-clinic CLINIC_ID=northside' CLINIC_ID
        clinicpacs deactivate-clinic -- "$CLINIC_ID"
        ;;
    add-user)
        need 'add-user USERNAME=nora EMAIL=nora@northside.example CLINIC=northside [ROLE=radiologist|pacs-admin] [NAME="Nora Vale"]' \
            USERNAME EMAIL
        read -ra clinics <<< "${CLINIC:-}"
        read -ra roles <<< "${ROLE:-}"
        options=("--email=$EMAIL" "${clinics[@]/#/--clinic=}" "${roles[@]/#/--role=}")
        if [ -n "${NAME:-}" ]; then options+=("--full-name=$NAME"); fi
        clinicpacs add-user "${options[@]}" -- "$USERNAME"
        ;;
    move-user)
        need 'move-user USERNAME=nora CLINIC=southside' USERNAME CLINIC
        read -ra clinics <<< "$CLINIC"
        clinicpacs move-user "${clinics[@]/#/--clinic=}" -- "$USERNAME"
        ;;
    remove-user)
        need 'remove-user USERNAME=nora' USERNAME
        if is_yes "${YES:-}"; then options=(--yes); else options=(); fi
        clinicpacs remove-user "${options[@]}" -- "$USERNAME"
        ;;
    *) usage_error "add-clinic, deactivate-clinic, add-user, move-user or remove-user?" ;;
esac
