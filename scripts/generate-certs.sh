#!/usr/bin/env bash
# Makes or fetches the certificate that nginx serves: certs/fullchain.pem and certs/privkey.pem.
set -euo pipefail
cd "$(dirname "$0")/.."

. scripts/lib/say.sh
. scripts/lib/env.sh
. scripts/lib/docker.sh
. scripts/lib/certificate.sh

certs_help() {
    cat <<'TEXT'
usage: ./scripts/generate-certs.sh self-signed [--domain NAME] [--force]
       ./scripts/generate-certs.sh letsencrypt [--domain NAME] [--email ADDRESS] [--staging]

  self-signed   a certificate of our own for NAME, localhost and 127.0.0.1; browsers warn of it. One that
                still serves is kept unless --force says otherwise.
  letsencrypt   one of Let's Encrypt, renewed by itself from then on. Needs a public NAME that leads to this
                server, port 80 open to the internet, and the platform's nginx, which is started if need be.
                --staging rehearses with Let's Encrypt's test server and leaves the present certificate alone.

A certificate of your own: put it (with its chain) and its key there under these two names; nginx takes up
the change by itself. docs/ADMIN.md, Certificates.
TEXT
}

kind='' domain='' email='' staging='' force=''
while [ $# -gt 0 ]; do
    case $1 in
        self-signed | letsencrypt) kind=$1 ;;
        --domain | --email)
            [ $# -ge 2 ] || usage_error "$1 wants a value"
            if [ "$1" = --domain ]; then domain=$2; else email=$2; fi
            shift
            ;;
        --domain=*) domain=${1#*=} ;;
        --email=*) email=${1#*=} ;;
        --staging) staging=1 ;;
        --force) force=1 ;;
        --help | -h) certs_help; exit ;;
        *) usage_error "unknown argument ${1@Q}; --help tells what there is" ;;
    esac
    shift
done
domain=${domain:-$(setting DOMAIN localhost)}
[[ $domain =~ ^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$ ]] || usage_error "${domain@Q} is no name of a server"

case $kind in
    self-signed)
        if [ -z "$force" ] && certificate_serves "$domain"; then
            ok "certificate is kept: $(certificate_told)"
        elif [ -z "$force" ] && [ -f "$CERTIFICATE" ] && ! is_self_signed; then
            warn "the certificate is not of ours and is kept, but does not serve $domain: $(certificate_told)"
        else
            make_self_signed "$domain"
            ok "self-signed certificate made: $(certificate_told)"
        fi
        ;;
    letsencrypt) . scripts/certbot/first-issue.sh ;;
    *) usage_error "self-signed or letsencrypt? --help tells more" ;;
esac
