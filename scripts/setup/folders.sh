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

data=$(env_get DATA_PATH)
make_folder "$data" 0755
for name in inbox processed failed; do
    path=$(env_get "${name^^}_PATH")
    # The group's uploads go through here; each clinic's own folder below is closed to others.
    make_folder "${path:-$data/$name}" 2770
done
make_folder "$(env_get DICOM_STORAGE_PATH)" 0750
make_folder "$(env_get BACKUP_PATH)" 0750
# Read by node-exporter, which runs under a number of its own; holds figures only.
make_folder "$(env_get BACKUP_PATH)/metrics" 0755
make_folder certs 0750

if [ ${#commands[@]} -gt 0 ]; then
    die "some folders must belong to $owner, and you may not see to that; run these, then setup.sh again:" "${commands[@]}"
fi
ok "folders belong to $owner"
