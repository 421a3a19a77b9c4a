# shellcheck shell=bash
# Memory, architecture and disk. The daemon's own figures count: it may run in a virtual machine.

readonly MINIMUM_MEMORY_MB=3700 ENOUGH_MEMORY_MB=7400 MINIMUM_DISK_GB=10 ENOUGH_DISK_GB=50

step "Checking the machine"
read -r cores memory system architecture docker_root \
    < <(docker info --format '{{.NCPU}} {{.MemTotal}} {{.OSType}} {{.Architecture}} {{.DockerRootDir}}')

case $system/$architecture in
    linux/x86_64 | linux/amd64 | linux/aarch64 | linux/arm64) ;;
    *) die "the images are made for Linux on x86_64 and arm64; this is $system on $architecture" ;;
esac

# A machine sold as 8 GB reports a little less.
memory_mb=$((memory / 1048576))
((memory_mb >= MINIMUM_MEMORY_MB)) \
    || die "$memory_mb MB of memory are too little: 4 GB are the least, 8 GB are needed for work"
((memory_mb >= ENOUGH_MEMORY_MB)) || warn "$memory_mb MB of memory: 8 GB or more are needed for work"
ok "$cores cores, $memory_mb MB of memory, $architecture"

nearest_folder() {
    local path=$1
    until [ -d "$path" ]; do path=$(dirname "$path"); done
    printf '%s\n' "$path"
}
check_disk() {
    local free
    free=$(df -Pk "$(nearest_folder "$2")" | awk 'NR == 2 { printf "%d", $4 / 1000000 }')
    # An installation that is there must be able to move its folders elsewhere, and to upgrade.
    ((free >= MINIMUM_DISK_GB)) || [ -f "$ENV_FILE" ] \
        || die "$1: $free GB free on the disk of $2: $MINIMUM_DISK_GB GB are the least"
    ((free >= ENOUGH_DISK_GB)) || warn "$1: only $free GB free on the disk of $2"
}
for name in DATA_PATH DICOM_STORAGE_PATH BACKUP_PATH; do
    check_disk "$name" "$(planned $name)"
done
check_disk "Docker's own folder" "$docker_root"
ok "disks have room"
