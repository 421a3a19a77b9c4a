# shellcheck shell=bash disable=SC2034
# What backup.sh and restore.sh share. Needs load.sh.

readonly DATABASES=(catalog orthanc keycloak)

# folder NAME DEFAULT: the absolute path of a folder that .env names.
folder() { realpath -m -- "$(setting "$1" "$2")"; }

backup_path=$(folder BACKUP_PATH ./backups)
dicom_path=$(folder DICOM_STORAGE_PATH ./dicom)

# require_rights: whoever runs this owns what it reads and writes, or is root.
require_rights() {
    [ -d "$backup_path" ] || die "there is no folder $backup_path (BACKUP_PATH)" "./scripts/setup.sh makes it"
    if [ "$(id -u)" != 0 ] && { [ ! -r "$ENV_FILE" ] || [ "$(id -u)" != "$(setting PACS_UID)" ]; }; then
        die "you may not read $ENV_FILE and the folders of user $(setting PACS_UID)" "run this as the user who ran setup.sh, or as root"
    fi
    for tool in flock realpath tar; do
        command -v "$tool" > /dev/null || die "$tool is not installed, and these scripts need it"
    done
}

# take_lock: one backup or restore at a time. The kernel drops the lock with the last process that works for it.
take_lock() {
    exec {lock_fd}> "$backup_path/.lock" || die "$backup_path cannot be written to"
    flock --nonblock "$lock_fd" || die "a backup or a restore is under way already"
}

# ours PATH...: what root wrote here belongs to the user of our containers.
ours() { [ "$(id -u)" != 0 ] || chown -R "$(setting PACS_UID 10001):$(setting PACS_GID 10001)" -- "$@"; }

# backup_keys: leaves `--key KEY` for each public key of BACKUP_KEY in keys; none for a backup that is not encrypted.
backup_keys() {
    local each named
    keys=()
    IFS=', ' read -ra named <<< "$(setting BACKUP_KEY)"
    for each in "${named[@]}"; do
        [[ $each =~ ^age1[0-9a-z]{58}$ ]] || die "BACKUP_KEY: ${each@Q} is no age public key" "./clinicpacs backup new-key makes one"
        keys+=(--key "$each")
    done
}

# step_of_backup [RUN_OPTION... --] STEP ARGUMENT...: a step in a container that sees the backups.
step_of_backup() {
    local options=()
    while [ "$1" != -- ]; do options+=("$1"); shift; done
    shift
    compose run --rm --no-deps --no-TTY --env "$(operator)" --volume "$backup_path:/backups" "${options[@]}" admin backup "$@"
}

# psql_of DATABASE ARGUMENT...: as superuser, over the server's own socket.
psql_of() {
    local database=$1
    shift
    compose exec --no-TTY --env PGOPTIONS='-c client_min_messages=warning' postgres psql --no-psqlrc --quiet --tuples-only --no-align \
        --set ON_ERROR_STOP=1 --username postgres --dbname "$database" "$@"
}

# every_table_of DATABASE: a line `DATABASE|SCHEMA.TABLE|ROWS` for each table.
every_table_of() {
    psql_of "$1" --file - <<'SQL'
SELECT format('SELECT %L, count(*) FROM %I.%I', format('%s|%I.%I', current_database(), schemaname, tablename), schemaname, tablename)
FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')
ORDER BY schemaname, tablename
\gexec
SQL
}
