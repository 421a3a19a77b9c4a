# shellcheck shell=bash
# A platform that gets another address after its first start has more to change than .env.

if [ -n "$old_url" ] && [ "$old_url" != "$(env_get PUBLIC_URL)" ]; then
    warn "the address was $old_url and is now $(env_get PUBLIC_URL); that also means:"
    say "- make up, so that the services, Keycloak among them, learn of it; everyone signs in anew"
    say "- a certificate for the new name: self-signed follows below; else ./scripts/generate-certs.sh letsencrypt"
fi
