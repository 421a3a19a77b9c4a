# shellcheck shell=bash
# generate-certs.sh letsencrypt: the first certificate; the service certbot renews it from then on.

[[ $domain == *.* && ! $domain =~ ^[0-9.]+$ ]] \
    || die "Let's Encrypt issues certificates for public names only, and $domain is none" \
        "name yours with --domain, or use a self-signed certificate"
require_installation
[ "$domain" = "$(setting DOMAIN)" ] \
    || die "the platform's name is $(setting DOMAIN), not $domain" "change it first: ./scripts/setup.sh --domain $domain"
[ "$(setting HTTP_PORT 80)" = 80 ] || warn "Let's Encrypt asks port 80: it must lead to port $(setting HTTP_PORT) of this machine"
getent ahosts "$domain" > /dev/null || warn "$domain cannot be resolved from here; Let's Encrypt must be able to"

email=${email:-$(setting LETSENCRYPT_EMAIL)}
certificate_serves "$domain" || [ -f "$CERTIFICATE" ] || make_self_signed "$domain" # nginx needs one to start

if ! is_running nginx; then
    step "Starting nginx, which answers Let's Encrypt"
    compose up --detach --no-deps --wait nginx
fi

step "Asking Let's Encrypt for $domain${staging:+ (its test server)}"
compose --profile letsencrypt run --rm --no-deps certbot issue "$domain" "$email" ${staging:+--staging} \
    || die "Let's Encrypt gave no certificate; the present one stays" \
        "usual reasons: $domain does not lead here, or port 80 is closed to the internet"
if [ -n "$staging" ]; then
    ok "the rehearsal worked; the same command without --staging fetches the certificate itself"
    exit
fi
ok "$(certificate_told)"

step "Starting the renewal"
[ -z "$email" ] || env_set LETSENCRYPT_EMAIL "$email"
profiles=$(env_get COMPOSE_PROFILES)
case ,$profiles, in
    *,letsencrypt,*) ;;
    *) env_set COMPOSE_PROFILES "${profiles:+$profiles,}letsencrypt" ;;
esac
compose --profile letsencrypt up --detach --no-deps certbot
ok "it is looked at twice a day, and renewed a month before its end"
