# shellcheck shell=bash
# A self-signed certificate where there is none; one that serves is kept.

step "Checking the certificate"
scripts/generate-certs.sh self-signed --domain "$(env_get DOMAIN)"
