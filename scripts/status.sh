#!/usr/bin/env bash
# One look at the whole platform; works with half of it down, and then ends with 1.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/load.sh
. scripts/lib/urls.sh
. scripts/lib/certificate.sh

trouble=()
origin=$(setting PUBLIC_URL https://localhost)

show_services() {
    local service state status image path found
    found=$(containers '{{.Label "com.docker.compose.service"}}|{{.State}}|{{.Status}}|{{.Image}}')
    printf '%-20s %-34s %-14s %s\n' service state version URL
    while read -r service; do
        IFS='|' read -r _ state status image < <(grep "^$service|" <<< "$found" || echo '|missing|not there|')
        if is_trouble "$service" "$state" "$status"; then
            trouble+=("$service")
            status="$status  <--"
        fi
        path=$(url_path "$service")
        printf '%-20s %-34s %-14s %s\n' "$service" "$status" "$(version_of "$image")" "${path:+$origin$path}"
    done < <(compose config --services | sort)
}

is_trouble() {
    case $1/$2/$3 in
        migrate/exited/"Exited (0)"*) return 1 ;;
        */running/*"(unhealthy)"* | */running/*"health: starting"*) return 0 ;;
        */running/*) return 1 ;;
    esac
}

version_of() {
    case $1 in
        *:*) echo "${1##*:}" ;;
        '') echo ;;
        # Docker names the image by its number once the name has gone to a newer build.
        *) echo "older build" ;;
    esac
}

show_backup() {
    local file at bytes images
    file=$(setting BACKUP_PATH ./backups)/metrics/clinicpacs_backup.prom
    at=$(metric last_success_timestamp_seconds "$file")
    if [ -z "$at" ]; then
        say "last backup      never (make backup)"
        return
    fi
    # As long as the alert BackupTooOld waits.
    if (($(date +%s) - at > 26 * 3600)); then trouble+=(backup); fi
    bytes=$(metric bytes "$file") images=$(images_told "$file")
    say "last backup      $(age $(($(date +%s) - at))) ago, $(size "${bytes:-0}"), $images"
}

images_told() {
    local at
    at=$(metric last_success_with_images_timestamp_seconds "$1")
    if [ "$(metric includes_dicom "$1")" = 1 ]; then
        echo "with images"
    else
        echo "without images$([ -z "$at" ] || echo " (with them: $(age $(($(date +%s) - at))) ago)")"
    fi
}

# metric NAME FILE: as a whole number; Prometheus' text may write 1.7e+09.
metric() {
    [ -f "$2" ] || return 0
    awk -v name="clinicpacs_backup_$1" '$1 == name { printf "%.0f", $2 }' "$2"
}

show_certificate() {
    local days
    days=$(certificate_days) || days=''
    if [ -z "$days" ]; then
        say "certificate      none that can be read (./scripts/generate-certs.sh)"
        trouble+=(certificate)
        return
    fi
    say "certificate      $(certificate_told)"
    if ! certificate_fits_key; then
        say "                 $PRIVATE_KEY is not its key: nginx goes on with the old pair, and cannot be started with this one"
        trouble+=(certificate)
    elif ((days < 14)); then
        trouble+=(certificate)
    fi
}

show_alerts() {
    local to=()
    [ -z "$(setting ALERT_EMAIL_TO)" ] || [ -z "$(setting SMTP_HOST)" ] || to+=("e-mail to $(setting ALERT_EMAIL_TO)")
    [ -z "$(setting TELEGRAM_BOT_TOKEN)" ] || [ -z "$(setting TELEGRAM_CHAT_ID)" ] || to+=("Telegram")
    if [ ${#to[@]} = 0 ]; then
        say "alerts go to     nobody: set ALERT_EMAIL_TO and SMTP_HOST, or TELEGRAM_BOT_TOKEN and TELEGRAM_CHAT_ID, in $ENV_FILE"
    else
        say "alerts go to     $(printf '%s; ' "${to[@]}" | sed 's/; $//')"
    fi
}

step "Services of clinicpacs $(sed -n 's/^__version__ = "\(.*\)"/\1/p' pacs/__init__.py)"
show_services
step "This machine"
show_backup
show_certificate
show_alerts
step "Clinics"
clinicpacs status || trouble+=("clinicpacs status")
[ ${#trouble[@]} = 0 ] || die "problems with: ${trouble[*]}"
