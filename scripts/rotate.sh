#!/usr/bin/env bash
# New passwords between services: written into .env, and taken over by all who need them.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/load.sh
. scripts/lib/backup.sh

usage() {
    cat <<'TEXT'
usage: make rotate SECRET=archive-password [YES=1]

Gives services new passwords and restarts those that use any; the platform is away for up to two minutes. Users
stay signed in. What may be named:

  archive-password    of all users of the archive: importer, gateway, admin, monitor
  database-passwords  of all roles in PostgreSQL but the superuser
  client-secrets      of the clients in Keycloak that have one; people who are at /orthanc sign in anew
TEXT
}

case ${1:-} in
    archive-password) pattern='^ARCHIVE_[A-Z]+_PASSWORD$' ;;
    database-passwords) pattern='_DB_PASSWORD$' ;;
    client-secrets) pattern='_CLIENT_SECRET$' ;;
    --help | -h) usage; exit ;;
    *) usage >&2; exit 2 ;;
esac
mapfile -t names < <(env_filled_by_setup .env.example | grep -E "$pattern")
is_running postgres || die "the platform does not run, and all who use these secrets have to learn of the new ones" "start it with make up"

# A backup holds .env and Keycloak's database of one moment.
take_lock
step "New: ${names[*]}"
confirm "Restart what uses them?" || die "nothing was changed; YES=1 does not ask"
before=$ENV_FILE.before-rotation-$(date -u +%Y%m%dT%H%M%SZ)
cp -p "$ENV_FILE" "$before"
for name in "${names[@]}"; do env_set "$name" "$(random_secret 40)"; done
# `make up` only warns where Keycloak does not take its clients' secrets; here the way back must stay.
if ! scripts/up.sh || ! clinicpacs apply-realm > /dev/null; then
    die "not every service took its new password" "make status says which; to go back: cp ${before@Q} $ENV_FILE && make up"
fi
rm "$before"
ok "rotated; backups that were made before hold the old ones"
