#!/bin/sh
# Starts Prometheus, which takes no secret from the environment: the archive's password goes into a file on tmpfs.
set -eu
umask 077

: "${PUBLIC_URL:?is the address of the platform, for the links in alerts}"
printf %s "${ARCHIVE_MONITOR_PASSWORD:?is the password of the user monitor of the archive}" \
    >/run/prometheus/archive-password
unset ARCHIVE_MONITOR_PASSWORD

# Prometheus 3 expands external labels anyway and takes note of the option, no more.
exec prometheus \
    --config.file=/etc/prometheus/prometheus.yml \
    --enable-feature=expand-external-labels \
    --storage.tsdb.path=/prometheus \
    --storage.tsdb.retention.time="${PROMETHEUS_RETENTION:-30d}" \
    "$@"
