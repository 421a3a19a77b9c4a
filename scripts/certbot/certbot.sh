#!/bin/sh
# Runs in the container of certbot: `issue DOMAIN EMAIL [--staging]` once, `renew` for ever.
# It runs as PACS_UID without capabilities; what it keeps lies under certs/, as does the folder that nginx
# answers /.well-known/acme-challenge/ from. ACME_SERVER names another server than Let's Encrypt's, for tests.
set -eu

CERTS=${CERTS:-/certs}
HERE=$(dirname "$0")
WEBROOT=$CERTS/acme

# A backup of an older version held certbot's links as files. certbot would renew them no more, and a new certificate would
# get another name than the one that is deployed.
restore_links() {
    live=$CONFIG/live/clinicpacs
    for name in cert chain fullchain privkey; do
        if [ ! -e "$live/$name.pem" ] || [ -L "$live/$name.pem" ]; then continue; fi
        for file in "$CONFIG/archive/clinicpacs/$name"[0-9]*.pem; do
            if cmp -s "$file" "$live/$name.pem"; then ln -sf "../../archive/clinicpacs/${file##*/}" "$live/$name.pem"; fi
        done
        [ -L "$live/$name.pem" ] || { echo "$live/$name.pem is no link to a file of certbot's: move $CONFIG away and issue anew" >&2; return 1; }
    done
}

run_certbot() {
    restore_links
    command=$1
    shift
    certbot "$command" --non-interactive --config-dir "$CONFIG" --work-dir "${TMPDIR:-/tmp}/certbot" \
        --logs-dir "${TMPDIR:-/tmp}/certbot" ${ACME_SERVER:+--server "$ACME_SERVER"} --deploy-hook "$HERE/deploy-hook.sh" "$@"
}

CONFIG=$CERTS/letsencrypt
case ${1:-renew} in
    issue)
        domain=$2 email=${3:-}
        mkdir -p "$WEBROOT/.well-known/acme-challenge"
        if [ "${4:-}" = --staging ]; then
            # Nothing of the test server's may ever be renewed or served.
            CONFIG=$CERTS/letsencrypt-staging
            CERTS=$CONFIG/served
            mkdir -p "$CERTS"
            set -- --staging
        else
            set --
        fi
        export CERTS
        if [ -n "$email" ]; then set -- "$@" --email "$email"; else set -- "$@" --register-unsafely-without-email; fi
        run_certbot certonly --agree-tos --webroot --webroot-path "$WEBROOT" --key-type ecdsa \
            --cert-name clinicpacs --renew-with-new-domains --domain "$domain" "$@"
        # A certificate that was not due yet runs no hook; it may not be the one that is served.
        RENEWED_LINEAGE=$CONFIG/live/clinicpacs "$HERE/deploy-hook.sh"
        ;;
    renew)
        trap 'exit 0' TERM INT
        while :; do
            # In the background, because certbot waits for some random minutes, and a stop must not.
            run_certbot renew --quiet &
            wait $! || echo "renewal failed; it is tried again in 12 hours" >&2
            sleep 43200 &
            wait $!
        done
        ;;
    *) exec certbot "$@" ;;
esac
