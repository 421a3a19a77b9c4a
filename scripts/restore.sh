#!/usr/bin/env bash
# Brings a backup back. Everything is verified before anything is changed; the databases that are replaced
# and the images that are too much stay beside the new ones until these are complete.
set -euo pipefail
called_in=$PWD
cd "$(dirname "$0")/.."
. scripts/lib/say.sh

usage() {
    cat <<'TEXT'
usage: ./scripts/restore.sh BACKUP [--identity FILE] [--stop] [--with-config] [--no-refile] [--yes]

Brings back a backup of BACKUP_PATH, by its name or its path; ./scripts/backup.sh --list lists them. Files that
were filed in processed since it was made go back into the inbox, so that their images are not lost.

  --identity FILE the private key of an encrypted backup, as age-keygen writes it
  --stop          stop the platform if it runs; otherwise a running one is refused
  --with-config   also .env and the certificates; what is there is kept beside them
  --no-refile     leave in processed what was stored since
  --yes           ask nothing, and let users in although what was withdrawn since comes back
TEXT
}

backup='' identity='' stop='' with_config='' refile=1
while [ $# -gt 0 ]; do
    case $1 in
        --identity) [ $# -ge 2 ] || usage_error "--identity wants a file"; identity=$(cd "$called_in" && realpath -- "$2"); shift ;;
        --stop) stop=1 ;;
        --with-config) with_config=1 ;;
        --no-refile) refile='' ;;
        --yes | -y) YES=1 ;;
        --help | -h) usage; exit ;;
        -*) usage_error "unknown argument ${1@Q}; --help tells what there is" ;;
        *) [ -z "$backup" ] || usage_error "one backup at a time"; backup=$1 ;;
    esac
    shift
done
[ -n "$backup" ] || { usage >&2; exit 2; }

. scripts/lib/env.sh
. scripts/lib/docker.sh
. scripts/lib/secrets.sh

# Without .env nothing else can be read, and on a new machine it is in the backup only.
if [ ! -f "$ENV_FILE" ] && [ -n "$with_config" ]; then
    [ ! -f "$backup/configuration.tar.age" ] || die "there is no $ENV_FILE here, and the backup's is encrypted" \
        "age --decrypt --identity KEY ${backup@Q}/configuration.tar.age | tar --extract $ENV_FILE"
    [ -f "$backup/configuration.tar" ] || die "there is no $ENV_FILE here: give the path of the backup"
    (umask 077 && tar --extract --file "$backup/configuration.tar" --to-stdout "$ENV_FILE" > "$ENV_FILE.new" && mv "$ENV_FILE.new" "$ENV_FILE") \
        || die "the settings could not be read from $backup/configuration.tar"
    step "$ENV_FILE is the backup's"
fi
require_installation
. scripts/lib/backup.sh
. scripts/lib/withdrawn.sh
require_rights
# On a new machine there are none yet, and no container starts without its own.
write_secrets
name=$(basename -- "$backup")
[ "$(realpath -m -- "$backup_path/$name")" = "$(realpath -m -- "$backup")" ] || [ "$backup" = "$name" ] \
    || die "$backup is not in $backup_path" "copy it there first: cp -a ${backup@Q} ${backup_path@Q}/"
place=$backup_path/$name
[ -f "$place/manifest.json" ] || die "$place is no complete backup" "./scripts/backup.sh --list lists them"
take_lock

field() { step_of_backup -- field "$name" "$1"; }
encrypted=$(field encrypted)
[ "$encrypted" != yes ] || [ -r "$identity" ] || die "the backup is encrypted: --identity names the file with its private key"
scratch=$(umask 077 && mktemp -d)
tidy() {
    rm -rf "$scratch"
    if [ "$encrypted" = yes ]; then step_of_backup -- close "$name" < /dev/null || warn "what was decrypted could not be removed"; fi
}
trap tidy EXIT
# Where its dumps and settings can be read: beside the backup until all is restored, if it is encrypted.
content=$place
open_backup() {
    [ "$encrypted" = yes ] || return 0
    step_of_backup -- open "$name" < "$identity" || die "the backup could not be decrypted: nothing was changed"
    content=$backup_path/.opened-$name
}

# --- checks, which change nothing ---

check_running() {
    local running
    running=$(docker ps --filter "label=com.docker.compose.project=$(project_name)" --format '{{.Names}}' | wc -l)
    [ "$running" = 0 ] || [ -n "$stop" ] || die "the platform runs: make down, or --stop"
}

verify() {
    local version
    version=$(compose run --rm --no-deps --no-TTY --entrypoint pg_restore postgres --version) \
        || die "PostgreSQL's image is missing: ./scripts/setup.sh"
    [[ $version =~ \)\ ([0-9]+) ]] || die "PostgreSQL's version could not be read"
    step_of_backup -- verify "$name" --postgres "${BASH_REMATCH[1]}" || die "nothing was changed"
}

# Images of other versions may not read what these databases hold.
compare_images() {
    local line
    while IFS= read -r line; do
        grep -qxF -- "${line#*=}" "$scratch/images" || warn "the backup was made with ${line#*=} as ${line%%=*}"
    done < <(field services)
}

# What is written in a database and in .env must be the same in both: these come with Keycloak's database.
readonly OF_THE_REALM=(KEYCLOAK_ADMIN_PASSWORD KEYCLOAK_CLIENT_SECRET EXPLORER_CLIENT_SECRET SCRIPTS_CLIENT_SECRET GRAFANA_CLIENT_SECRET)

compare_configuration() {
    local each value differing=()
    # With its owners, if root does this: nginx may read the key as one of them.
    tar --extract --file "$content/configuration.tar" --directory "$scratch" --numeric-owner --same-permissions
    [ -f "$scratch/$ENV_FILE" ] || die "the backup holds no $ENV_FILE"
    while read -r each; do
        [ "$(env_get "$each")" = "$(env_get "$each" "$scratch/$ENV_FILE")" ] || differing+=("$each")
    done < <(env_names "$scratch/$ENV_FILE" | sort -u)
    [ ${#differing[@]} = 0 ] || say "differs in $ENV_FILE: ${differing[*]}"
    while read -r each; do
        say "differs: $each"
    done < <(cd "$scratch" && find . -type f ! -path "./$ENV_FILE" ! -path ./images | sed 's|^\./||' | sort | while read -r each; do
        cmp -s "$each" "$OLDPWD/$each" || echo "$each"
    done)
}

ask() {
    local answer=''
    step "This is brought back"
    step_of_backup -- show "$name"
    say "It replaces the databases of this platform: clinics, users and audit since then are lost, and who was removed comes back."
    if [ -n "$refile" ]; then say "Files that were filed in processed since then are imported anew: their images are not lost."; fi
    if is_yes "${YES:-}"; then return 0; fi
    [ -t 0 ] || die "nothing was changed; --yes does not ask"
    read -r -p "    Type restore to go on: " answer
    [ "$answer" = restore ] || die "nothing was changed"
}

# --- changes ---

restore_configuration() {
    local each at
    at=$(date -u +%Y%m%dT%H%M%SZ)
    if [ -n "$with_config" ]; then
        cp -p "$ENV_FILE" "$ENV_FILE.before-restore-$at"
        (umask 077 && cat "$scratch/$ENV_FILE" > "$ENV_FILE.new") && mv "$ENV_FILE.new" "$ENV_FILE"
        if [ -d "$scratch/certs" ]; then
            # In place: containers have this folder mounted.
            cp -a certs "certs.before-restore-$at" 2> /dev/null || mkdir -p certs
            cp -a "$scratch/certs/." certs/
        fi
        ok "$ENV_FILE and certs are the backup's; the old ones are beside them, named before-restore-$at"
        return 0
    fi
    for each in "${OF_THE_REALM[@]}"; do
        value=$(env_get "$each" "$scratch/$ENV_FILE")
        if [ -n "$value" ] && [ "$value" != "$(env_get "$each")" ]; then
            [ -e "$ENV_FILE.before-restore-$at" ] || cp -p "$ENV_FILE" "$ENV_FILE.before-restore-$at"
            env_set "$each" "$value"
            ok "$each is the backup's: it is the one in Keycloak's database"
        fi
    done
}

make_folders() {
    local path
    for path in "$dicom_path" "$(folder DATA_PATH ./data)"; do
        if [ ! -d "$path" ]; then
            mkdir -p -- "$path"
            chmod 0750 -- "$path"
            ours "$path"
        fi
    done
}

# Roles and their passwords as .env has them now, which may not be the ones that the cluster was made with.
set_database_up() {
    psql_of postgres --file - <<'SQL'
SET log_min_error_statement TO panic;
SET log_min_duration_statement TO -1;
SET log_statement TO none;
\set password `cat /run/secrets/POSTGRES_PASSWORD`
ALTER ROLE postgres PASSWORD :'password';
SQL
    compose exec --no-TTY postgres sh /with-secrets.sh bash /docker-entrypoint-initdb.d/10-databases.sh
}

# restore_database NAME: into a new one; the old one is kept under another name.
restore_database() {
    psql_of postgres --command "DROP DATABASE IF EXISTS ${1}_restored WITH (FORCE)" \
        --command "CREATE DATABASE ${1}_restored OWNER $1 TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8'"
    # The password comes from its file, out of every argument.
    # shellcheck disable=SC2016
    compose run --rm --no-deps --no-TTY --volume "$content:/backup:ro" --entrypoint bash postgres -c \
        'PGPASSWORD=$(< /run/secrets/POSTGRES_PASSWORD) exec pg_restore --host postgres --username postgres --no-password --exit-on-error --jobs 4 \
            --dbname "$1_restored" "/backup/$1.dump"' - "$1" \
        || die "the database $1 could not be restored: the old ones are untouched"
    ok "$1"
}

swap_databases() {
    local each
    for each in "${DATABASES[@]}"; do
        psql_of postgres --command "DROP DATABASE IF EXISTS $each WITH (FORCE)" \
            --command "ALTER DATABASE ${each}_restored RENAME TO $each"
    done
    set_database_up
}

check_images() {
    local missing
    missing=$(grep -c . "$place/dicom/missing.txt" 2> /dev/null || true)
    psql_of orthanc --field-separator $'\t' --command 'SELECT uuid, compressedsize FROM attachedfiles' \
        | step_of_backup --volume "$dicom_path:/dicom:ro" -- check-images --missing "${missing:-0}"
}

compare_counts() {
    local each
    for each in "${DATABASES[@]}"; do every_table_of "$each"; done | step_of_backup -- compare "$name"
}

# --- what happens ---

check_running
step "Verifying $place: every byte is read"
verify
open_backup
compose config --images > "$scratch/images" 2> /dev/null || true
compare_images
compare_configuration
ask

if [ -n "$stop" ]; then
    step "Stopping the platform"
    compose stop > /dev/null 2>&1 || die "it could not be stopped"
fi
step "Settings"
restore_configuration
# The backup's settings may name another folder of images.
dicom_path=$(folder DICOM_STORAGE_PATH ./dicom)
make_folders

step "Restoring the databases"
write_secrets
mark_secrets
compose up --detach --wait --wait-timeout 300 postgres > "$scratch/log" 2>&1 || { tail -n 5 "$scratch/log" >&2; die "PostgreSQL does not start"; }
set_database_up
for database in "${DATABASES[@]}"; do restore_database "$database"; done
tell_what_is_lost
withdrawn_file=$PWD/withdrawn-before-restore-$(date -u +%Y%m%dT%H%M%SZ).txt
tell_what_comes_back "$withdrawn_file"

has_images=$(field images)
if [ "$has_images" = yes ]; then
    step "Bringing the archive's files back"
    step_of_backup --volume "$dicom_path:/dicom" -- put-back "$name" --aside ".before-restore-$(date -u +%Y%m%dT%H%M%SZ)" \
        < "${identity:-/dev/null}"
else
    warn "the backup holds no images: those in $dicom_path are used"
fi
swap_databases

step "Comparing"
differs=''
compare_counts || differs=1
check_images || differs=1

step "Bringing the catalog to this version"
compose run --rm --no-deps --no-TTY migrate
dicom_too=()
if [ "$has_images" = yes ]; then dicom_too=(--include-dicom); fi
step_of_backup -- record restore "$name" "${dicom_too[@]}"
if [ -n "$refile" ]; then
    step "Putting back what was stored since"
    compose run --rm --no-deps --no-TTY --env "$(operator)" admin refile --since "$(field paused_at)"
fi
if [ -n "$differs" ]; then
    die "not everything is as it was backed up, see above; the platform was not started" \
        "make up starts it as it is; the same command brings the backup back once more"
fi

# Who may no longer see something must not come in before that is withdrawn anew; for that ./clinicpacs needs these.
services=()
if [ ${#withdrawn[@]} -gt 0 ] && ! confirm "Let users in although what was withdrawn is given back to them?"; then
    services=(importer keycloak)
fi
step "Starting the platform"
rm -f "$backup_path/.importing-paused"
compose up --detach --wait --wait-timeout "${UP_SECONDS:-900}" "${services[@]}" > "$scratch/log" 2>&1 || {
    tail -n 20 "$scratch/log" >&2
    die "everything was restored, but not every service is healthy" "make status and make logs say why"
}
step "The backup is restored"
[ ${#withdrawn[@]} = 0 ] || warn "what $withdrawn_file lists was given back: withdraw it anew with ./clinicpacs"
[ ${#services[@]} = 0 ] || say "Users cannot come in yet. Once that is done: make up"
