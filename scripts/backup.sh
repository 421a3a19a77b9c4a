#!/usr/bin/env bash
# Makes a backup of the running platform: three databases, the settings, and the images if asked.
# Importing rests only while the archive's index and its newest files are copied, so that they agree.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/load.sh
. scripts/lib/backup.sh

usage() {
    cat <<'TEXT'
usage: ./scripts/backup.sh [--include-dicom]
       ./scripts/backup.sh --list | --latest | --verify BACKUP

Makes a backup in BACKUP_PATH and keeps the newest BACKUP_KEEP; the newest one with images is never removed.
The platform must run. A backup holds passwords and patients' names: whoever can read it can read them, unless
BACKUP_KEY has a public key that it is encrypted to.

  --include-dicom   also the archive's images; those that the last such backup holds take no room again
  --list            the backups that are complete
  --latest          the path of the newest one
  --verify BACKUP   read every byte of one and hold it against its manifest
TEXT
}

include_dicom='' mode=make
while [ $# -gt 0 ]; do
    case $1 in
        --include-dicom) include_dicom=1 ;;
        --list | --latest) mode=${1#--} ;;
        --verify) [ $# -ge 2 ] || usage_error "--verify wants the name of a backup"; mode=verify name=$(basename -- "$2"); shift ;;
        --help | -h) usage; exit ;;
        *) usage_error "unknown argument ${1@Q}; --help tells what there is" ;;
    esac
    shift
done
require_rights
case $mode in
    list) step_of_backup -- list; exit ;;
    latest)
        find "$backup_path" -mindepth 2 -maxdepth 2 -path '*/clinicpacs-*Z/manifest.json' | sort | tail -n 1 | xargs -r -d '\n' dirname
        exit
        ;;
    verify) step_of_backup -- verify "$name"; exit ;;
esac

keep=$(setting BACKUP_KEEP 7)
[[ $keep =~ ^[1-9][0-9]{0,3}$ ]] || die "BACKUP_KEEP=$keep: a number from 1 is needed"
for service in postgres orthanc; do
    is_running $service || die "$service does not run, and a backup needs it to" "start the platform with make up"
done
take_lock

readonly paused_mark=$backup_path/.importing-paused
name=clinicpacs-$(date -u +%Y%m%dT%H%M%SZ)
partial=$backup_path/$name.partial
storage=(--volume "$dicom_path:/dicom:ro")
backup_keys

# --- importing, which must go on whatever happens to this script ---

resume() {
    [ -e "$paused_mark" ] || return 0
    compose start importer > /dev/null 2>&1 || compose up --detach --no-deps importer > /dev/null 2>&1 || {
        warn "IMPORTING IS STILL STOPPED: start it with make up"
        return 1
    }
    rm -f "$paused_mark"
    ok "importing goes on"
}

pause() {
    if ! is_running importer; then
        warn "the importer does not run: nothing to pause"
    else
        touch "$paused_mark"
        # If this script is killed, even by SIGKILL, the other end of this pipe is closed, and importing goes on.
        # shellcheck disable=SC2034
        exec {guard_fd}> >(trap '' INT TERM HUP; exec {lock_fd}>&-; cat > /dev/null; sleep 1; resume > /dev/null 2>&1)
        compose stop importer > /dev/null 2>&1 || die "the importer could not be stopped"
    fi
    # By the clock of the file system that files are filed in, which may be another machine's.
    paused_at=$(step_of_backup -- clock)
    [[ $paused_at =~ ^20[0-9]{2}-[0-9:.T+-]+$ ]] || die "the time could not be read"
}

give_up() {
    local status=$?
    trap '' INT TERM HUP
    [ -z "${finished:-}" ] || exit "$status"
    resume || true
    if [ -d "$partial" ]; then
        step_of_backup -- abandon "$name" > /dev/null 2>&1 || warn "$partial could not be removed: it is no backup"
    fi
    if [ -d "$backup_path/$name" ]; then
        warn "$backup_path/$name is complete, but what had to be done after it was not"
    else
        printf '%sno backup was made%s\n' "$_red" "$_plain" >&2
    fi
    [ "$status" != 0 ] || status=1
    exit "$status"
}

# --- what is copied ---

dump() {
    compose exec --no-TTY postgres pg_dump --username postgres --format custom "$1" > "$partial/$1.dump" \
        || die "the database $1 could not be dumped"
    ok "$1: $(size "$(stat -c %s "$partial/$1.dump")")"
}

# read_dump NAME [OPTION...]: the data of a dump as text. What is read here can be read at a restore.
read_dump() {
    local database=$1
    shift
    compose exec --no-TTY postgres pg_restore --data-only --file=- "$@" < "$partial/$database.dump"
}

copy_configuration() {
    local names=() each
    for each in "$ENV_FILE" certs docker-compose*.yml nginx keycloak orthanc ohif postgres monitoring; do
        if [ -e "$each" ]; then names+=("$each"); fi
    done
    # certbot wants its links as links. What Let's Encrypt's test server issued is for a rehearsal only.
    tar --create --dereference --exclude certs/letsencrypt --exclude certs/letsencrypt-staging --file "$partial/configuration.tar" -- "${names[@]}" \
        || die "the configuration could not be copied"
    if [ -d certs/letsencrypt ]; then
        tar --append --file "$partial/configuration.tar" -- certs/letsencrypt || die "certbot's folder could not be copied"
    fi
    ok "configuration: ${names[*]}"
}

copy_index_and_newest_files() {
    local attempt accept=() status
    for attempt in 1 2 3; do
        dump orthanc
        [ -n "$include_dicom" ] || return 0
        [ $attempt -lt 3 ] || accept=(--accept-missing)
        status=0
        read_dump orthanc --table=attachedfiles | step_of_backup "${storage[@]}" -- agree "$name" "${accept[@]}" "${keys[@]}" || status=$?
        if [ $status != 3 ] || [ $attempt = 3 ]; then return $status; fi
        say "once more"
    done
}

check_room() {
    local needed free
    needed=$(psql_of postgres --command "SELECT sum(pg_database_size(datname)) FROM pg_database")
    free=$(df -P -B 1 "$backup_path" | awk 'NR == 2 { print $4 }')
    ((free > needed)) || die "$backup_path has $(size "$free") free, and the databases take up to $(size "$needed")"
}

# services: what the others' images are; ours are of the version that the manifest names.
services() {
    local service image
    while IFS='|' read -r service image; do
        [[ $image =~ ^[0-9a-f]+$ || $image == clinicpacs* ]] || printf '%s\n' "--service=$service=$image"
    done < <(containers '{{.Label "com.docker.compose.service"}}|{{.Image}}' | sort -u)
}

# --- what happens ---

if [ -e "$paused_mark" ]; then
    warn "an earlier backup was killed while importing was paused"
    resume
fi
check_room
umask 077
trap give_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

step "Backing up to $backup_path/$name"
step_of_backup -- begin "$name" "${keys[@]}"
step_of_backup -- record backup "$name" ${include_dicom:+--include-dicom}
copy_configuration
dump keycloak
if [ -n "$include_dicom" ]; then
    step "Copying the archive's files, while it works"
    step_of_backup "${storage[@]}" -- copy "$name" "${keys[@]}"
fi

step "Pausing importing"
pause
SECONDS=0
dump catalog
copy_index_and_newest_files
if is_running importer; then
    die "the importer was started while the backup was made: index and images may not agree"
fi
say "it rested $SECONDS s"
resume

step "Reading the dumps back"
for database in "${DATABASES[@]}"; do
    read_dump "$database" | step_of_backup -- rows "$name" "$database"
done
postgres=$(psql_of postgres --command "SHOW server_version_num")
ours "$partial"
mapfile -t images < <(services)

step "Finishing"
step_of_backup -- seal "$name" --keep "$keep" --postgres "$postgres" --paused-at "$paused_at" \
    ${include_dicom:+--include-dicom} "${images[@]}" "${keys[@]}"
finished=1
step "The backup is complete: $backup_path/$name"
if [ -z "$include_dicom" ]; then warn "IT HOLDS NO IMAGES: --include-dicom (make backup INCLUDE_DICOM=1) does"; fi
if [ ${#keys[@]} -gt 0 ]; then
    say "Copy it to another machine; it is encrypted to BACKUP_KEY, and nobody reads it without the private key."
    say "To bring it back: make restore BACKUP_FILE=$backup_path/$name IDENTITY=FILE"
else
    say "Copy it to another machine; it holds passwords and patients' names: BACKUP_KEY encrypts the next one."
    say "To bring it back: make restore BACKUP_FILE=$backup_path/$name"
fi
