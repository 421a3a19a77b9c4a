#!/usr/bin/env bash
# Stands for `docker` where the scripts themselves are under test: it keeps what runs in files under $FAKE, writes
# every call to $FAKE/calls, and fails or hangs where $FAIL_ON or $HANG_ON says so.
set -eu
call="$*"
printf '%s\n' "$call" >> "$FAKE/calls"
if [[ -n ${HANG_ON:-} && $call =~ $HANG_ON ]]; then
    touch "$FAKE/hanging"
    for _ in {1..600}; do if [ -e "$FAKE/go-on" ]; then break; fi; sleep 0.05; done
fi
if [[ -n ${FAIL_ON:-} && $call =~ $FAIL_ON ]]; then echo "it was told to fail" >&2; exit 1; fi

step=${call##* admin backup }
name=$(cut -d ' ' -f 2 <<< "$step")
case $call in
    "ps --quiet"*) grep -o "service=[a-z]*" <<< "$call" | cut -d = -f 2 | while read -r service; do grep -x "$service" "$FAKE/running" || true; done ;;
    "ps --all"*) echo 'orthanc|orthancteam/orthanc:26.8.1' ;;
    "ps --filter"*) cat "$FAKE/running" ;;
    "compose stop importer") sed -i /importer/d "$FAKE/running" ;;
    "compose stop") : > "$FAKE/running" ;;
    "compose start importer") echo importer >> "$FAKE/running" ;;
    *" pg_dump "*) echo "dump of ${call##* }" ;;
    *" pg_restore postgres --version") echo "pg_restore (PostgreSQL) 17.6" ;;
    *" pg_restore "*" --dbname "*) ;;
    *" pg_restore "*) cat ;;
    *"pg_database_size"*) echo 1000 ;;
    *server_version_num*) echo 170006 ;;
    *"admin backup begin"*) mkdir "$BACKUPS/$name.partial" ;;
    *"admin backup abandon"*) rm -r "$BACKUPS/$name.partial" ;;
    *"admin backup field "*" encrypted") cat "$FAKE/encrypted" 2> /dev/null || echo no ;;
    *"admin backup open"*)
        [ "$(cat)" = "private key" ] || exit 1
        mkdir "$BACKUPS/.opened-$name"
        for file in "$BACKUPS/$name"/*.age; do cp "$file" "$BACKUPS/.opened-$name/$(basename "$file" .age)"; done
        ;;
    *"admin backup close"*) rm -rf "$BACKUPS/.opened-$name" ;;
    *"admin backup clock"*) echo 2026-01-02T03:04:05.000006+00:00 ;;
    *"admin backup agree"*) cat > /dev/null; exit "$(cat "$FAKE/agree" 2> /dev/null || echo 0)" ;;
    *"admin backup rows"*) cat > /dev/null ;;
    *"admin backup seal"*) echo '{}' > "$BACKUPS/$name.partial/manifest.json"; mv "$BACKUPS/$name.partial" "$BACKUPS/$name" ;;
esac
