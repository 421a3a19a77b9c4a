#!/usr/bin/env bash
# The short make targets: everything about the running platform that is one command.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/load.sh

one_service=()
if [ -n "${SERVICE:-}" ]; then
    [[ $SERVICE =~ ^[a-z][a-z0-9-]*$ ]] || usage_error "SERVICE=${SERVICE@Q}: no service is called so"
    one_service=("$SERVICE")
fi

case ${1:-} in
    # Never --volumes: stopping must not be able to lose anything.
    down) compose down --remove-orphans ;;
    restart) compose restart "${one_service[@]}" ;;
    logs)
        if [ -n "${2:-}" ]; then one_service=("$2"); fi
        compose logs --follow --tail 200 "${one_service[@]}"
        ;;
    backup)
        if is_yes "${INCLUDE_DICOM:-}"; then scripts/backup.sh --include-dicom; else scripts/backup.sh; fi
        ;;
    backup-list) scripts/backup.sh --list ;;
    restore)
        [ -n "${BACKUP_FILE:-}" ] || usage_error "usage: make restore BACKUP_FILE=...; make backup-list lists them"
        options=()
        if [ -n "${IDENTITY:-}" ]; then options+=(--identity "$IDENTITY"); fi
        if is_yes "${STOP:-}"; then options+=(--stop); fi
        if is_yes "${WITH_CONFIG:-}"; then options+=(--with-config); fi
        if is_yes "${YES:-}"; then options+=(--yes); fi
        scripts/restore.sh "${options[@]}" "$BACKUP_FILE"
        ;;
    shell-orthanc) compose exec orthanc bash ;;
    shell-db) compose exec postgres psql --username=postgres --dbname="${DB:-catalog}" ;;
    *) usage_error "unknown command ${1@Q}; make help lists what there is" ;;
esac
