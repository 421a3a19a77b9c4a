# shellcheck shell=bash
# The folders that containers share with this machine, owned by PACS_UID:PACS_GID.

step "Making the folders"
owner=$(env_get PACS_UID):$(env_get PACS_GID)
commands=()

# make_folder PATH MODE: what is there keeps its mode; its owner must be ours.
make_folder() {
    if [ ! -d "$1" ]; then
        if mkdir -p -- "$1" 2> /dev/null; then
            chmod "$2" -- "$1"
            ok "$1 made"
        else
            commands+=("sudo install -d -m $2 -o ${owner%:*} -g ${owner#*:} ${1@Q}")
            return 0
        fi
    fi
    [ "$(stat -L -c %u:%g -- "$1")" != "$owner" ] || return 0
    if chown "$owner" -- "$1" 2> /dev/null; then
        ok "$1 belongs to $owner now"
    elif [ "$(id -u)" = 0 ]; then
        # A network share has owners of its own, and the mount decides who they are.
        warn "$1 cannot be given to $owner: mount it so that this user may write (CIFS: uid=${owner%:*},gid=${owner#*:})"
    else
        commands+=("sudo chown $owner ${1@Q}")
    fi
}

# Containers run under numbers of their own: a clone that was made under umask 027 would be closed to them, and
# PostgreSQL would begin without its databases.
for each in admin docs/TROUBLESHOOTING.md gateway importer keycloak monitoring nginx ohif orthanc pacs postgres scripts; do
    [ ! -e "$each" ] || chmod -R a+rX -- "$each" 2> /dev/null \
        || die "$each must be readable for everyone: chmod -R a+rX $each"
done

# close_folder PATH: also one that was made when it was open to the group.
close_folder() { [ ! -O "$1" ] && [ "$(id -u)" != 0 ] || chmod go-rwx -- "$1" 2> /dev/null || true; }

data=$(env_get DATA_PATH)
# Only the inbox is for the group, which the accounts for uploads are in: the rest is the services' own.
make_folder "$data" 0755
path=$(env_get INBOX_PATH)
make_folder "${path:-$data/inbox}" 2770
if [ -n "$path" ] && [ -n "$(ls -A "$data/inbox" 2> /dev/null)" ]; then
    warn "$data/inbox is no longer the inbox, and is not empty: docs/ADMIN.md, Folders set apart"
fi
for name in processed failed; do
    path=$(env_get "${name^^}_PATH")
    make_folder "${path:-$data/$name}" 0700
    close_folder "${path:-$data/$name}"
done
for path in "$(env_get DICOM_STORAGE_PATH)" "$(env_get BACKUP_PATH)" certs; do
    make_folder "$path" 0700
    close_folder "$path"
done
# Read by node-exporter, which runs under a number of its own; holds figures only.
make_folder "$(env_get BACKUP_PATH)/metrics" 0755

if [ ${#commands[@]} -gt 0 ]; then
    die "some folders must belong to $owner, and you may not see to that; run these, then setup.sh again:" "${commands[@]}"
fi
ok "folders belong to $owner"
