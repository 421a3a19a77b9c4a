#!/usr/bin/env bash
# Brings a running platform to the version that is checked out: backup, images, catalog, restart.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/load.sh

version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' pacs/__init__.py)
is_running postgres || die "the platform does not run, and its backup needs it to" "start it with make up, or run ./scripts/setup.sh if it is new"

step "Upgrading to clinicpacs $version"
say "A backup is made first (databases, settings; images are not touched by an upgrade)."
say "Users are signed out of nothing; the platform is away for a minute or two."
confirm "Go on?" || die "nothing was changed; YES=1 does not ask"

# Settings that are new in this version, before anything reads .env; they change nothing that runs.
step "Settings of this version"
scripts/setup.sh --yes --no-pull
compose build admin
step "Backing up"
scripts/backup.sh
backup=$(scripts/backup.sh --latest)

undo() {
    say "To go back: check out the version that ran before (git checkout TAG), then"
    say "    docker compose build && make restore STOP=1 BACKUP_FILE=$backup"
    say "which brings back its databases and settings; images stay where they are."
}

step "Images of this version"
scripts/setup.sh --yes
# Files that are mounted may have changed, which a running container does not notice.
if ! scripts/up.sh --recreate; then
    undo
    die "the upgrade did not come through" "make status and make logs say why"
fi
ok "this is clinicpacs $version"
undo
