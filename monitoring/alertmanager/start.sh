#!/bin/sh
# Starts Alertmanager, which reads no environment: its configuration is written to tmpfs first.
# Told are those whom the environment names: ALERT_EMAIL_TO by SMTP_HOST, TELEGRAM_CHAT_ID by TELEGRAM_BOT_TOKEN.
set -eu
umask 077

here=$(cd "$(dirname "$0")" && pwd)
run=${RUN_PATH:-/run/alertmanager}

: "${PUBLIC_URL:=https://localhost}"
domain=${PUBLIC_URL#*://}
domain=${domain%%[:/]*}
: "${ALERT_EMAIL_TO:=}" "${ALERT_EMAIL_FROM:=clinicpacs@$domain}"
: "${SMTP_HOST:=}" "${SMTP_PORT:=587}" "${SMTP_USERNAME:=}" "${SMTP_PASSWORD:=}" "${SMTP_REQUIRE_TLS:=true}"
: "${TELEGRAM_BOT_TOKEN:=}" "${TELEGRAM_CHAT_ID:=}"
: "${ALERT_GROUP_WAIT:=30s}" "${ALERT_GROUP_INTERVAL:=2m}" "${ALERT_REPEAT_INTERVAL:=4h}"

# --- checks: all faults at once --------------------------------------------------------------------

faults=0
value=
fault() {
    echo "alertmanager: $1" >&2
    faults=1
}

# must NAME PATTERN WHAT
must() {
    eval "value=\$$1"
    printf %s "$value" | grep -Eqx -- "$2" || fault "$1 must be $3"
}

for name in PUBLIC_URL ALERT_EMAIL_TO ALERT_EMAIL_FROM SMTP_HOST SMTP_PORT SMTP_USERNAME SMTP_PASSWORD \
    SMTP_REQUIRE_TLS TELEGRAM_BOT_TOKEN TELEGRAM_CHAT_ID \
    ALERT_GROUP_WAIT ALERT_GROUP_INTERVAL ALERT_REPEAT_INTERVAL; do
    eval "value=\$$name"
    case $value in
        *[[:cntrl:]]*) fault "$name holds a line break or another control character" ;;
    esac
done

must PUBLIC_URL 'https?://[^[:space:]]+' 'an address such as https://pacs.example'
for name in ALERT_GROUP_WAIT ALERT_GROUP_INTERVAL ALERT_REPEAT_INTERVAL; do
    must "$name" '([0-9]+(ms|s|m|h|d))+' 'a time such as 30s, 5m or 4h'
done
if [ -n "$ALERT_EMAIL_TO" ]; then
    # Alertmanager would take {{ in an address for a template.
    addresses='[^{}]+@[^{}]+'
    must ALERT_EMAIL_TO "$addresses" 'one or several e-mail addresses, separated by commas'
    must ALERT_EMAIL_FROM "$addresses" 'an e-mail address'
    must SMTP_HOST '[A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\]' 'the name of the mail server, if ALERT_EMAIL_TO is set'
    must SMTP_PORT '[0-9]{1,5}' 'a port number'
    must SMTP_REQUIRE_TLS 'true|false' 'true or false'
    [ -z "$SMTP_USERNAME" ] || must SMTP_PASSWORD '.+' 'set, if SMTP_USERNAME is'
fi
if [ -n "$TELEGRAM_BOT_TOKEN$TELEGRAM_CHAT_ID" ]; then
    must TELEGRAM_BOT_TOKEN '[0-9]+:[A-Za-z0-9_-]+' 'as the BotFather tells it, if TELEGRAM_CHAT_ID is set'
    must TELEGRAM_CHAT_ID '-?[0-9]+' 'a number, if TELEGRAM_BOT_TOKEN is set'
fi
[ "$faults" = 0 ] || exit 2

# --- the configuration -----------------------------------------------------------------------------

# The text as YAML's single-quoted scalar, which knows one escape only.
quoted() {
    printf "'%s'" "$(printf %s "$1" | sed "s/'/''/g")"
}

mail_server() {
    cat <<YAML
global:
  smtp_smarthost: $(quoted "$SMTP_HOST:$SMTP_PORT")
  smtp_from: $(quoted "$ALERT_EMAIL_FROM")
  smtp_require_tls: $SMTP_REQUIRE_TLS
YAML
    [ -n "$SMTP_USERNAME" ] || return 0
    printf %s "$SMTP_PASSWORD" >"$run/smtp-password"
    cat <<YAML
  smtp_auth_username: $(quoted "$SMTP_USERNAME")
  smtp_auth_password_file: $(quoted "$run/smtp-password")
YAML
}

route() {
    cat <<YAML
templates: [$(quoted "$here/messages.tmpl")]
route:
  receiver: $1
  group_by: [clinic, alertname]
  group_wait: $ALERT_GROUP_WAIT
  group_interval: $ALERT_GROUP_INTERVAL
  repeat_interval: $ALERT_REPEAT_INTERVAL
receivers:
  - name: $1
YAML
}

email() {
    cat <<YAML
    email_configs:
      - to: $(quoted "$ALERT_EMAIL_TO")
        send_resolved: true
        headers: {Subject: '{{ template "clinicpacs.subject" . }}'}
        text: '{{ template "clinicpacs.text" . }}'
        html: '{{ template "clinicpacs.html" . }}'
YAML
}

# The token stands here, in tmpfs: Debian 12's Alertmanager, which checks this file, knows no bot_token_file.
telegram() {
    cat <<YAML
    telegram_configs:
      - bot_token: $(quoted "$TELEGRAM_BOT_TOKEN")
        chat_id: $TELEGRAM_CHAT_ID
        send_resolved: true
        parse_mode: ''
        message: '{{ template "clinicpacs.text" . }}'
YAML
}

{
    [ -z "$ALERT_EMAIL_TO" ] || mail_server
    if [ -n "$ALERT_EMAIL_TO$TELEGRAM_CHAT_ID" ]; then
        route operators
    else
        echo 'alertmanager: nobody is told of alerts: set ALERT_EMAIL_TO or TELEGRAM_CHAT_ID' >&2
        route nobody
    fi
    [ -z "$ALERT_EMAIL_TO" ] || email
    [ -z "$TELEGRAM_CHAT_ID" ] || telegram
    cat "$here/inhibit.yml"
} >"$run/alertmanager.yml"

unset SMTP_PASSWORD TELEGRAM_BOT_TOKEN
# Messages name the platform by its address; a single Alertmanager needs no gossip.
exec alertmanager \
    --config.file="$run/alertmanager.yml" \
    --storage.path="${ALERTMANAGER_DATA:-/alertmanager}" \
    --web.external-url="$PUBLIC_URL" \
    --web.route-prefix=/ \
    --cluster.listen-address= \
    "$@"
