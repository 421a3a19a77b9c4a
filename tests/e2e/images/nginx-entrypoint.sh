#!/bin/sh
# What the official image does before nginx: /docker-entrypoint.d in order (*.envsh sourced, *.sh run), and templates
# with the environment's variables filled in.
set -e
substitute() {
    filter="${NGINX_ENVSUBST_FILTER:-}"
    names=$(env | cut -d= -f1 | grep -E -e "$filter" | sed 's/^/${/; s/$/}/' | tr '\n' ' ')
    for template in /etc/nginx/templates/*.template; do
        [ -f "$template" ] || continue
        envsubst "$names" < "$template" > "/etc/nginx/conf.d/$(basename "$template" .template)"
    done
}
substituted=no
for script in $(find /docker-entrypoint.d -follow -type f 2>/dev/null | sort -V); do
    # The official image's own 20-envsubst-on-templates.sh stands at this place of the order.
    if [ "$substituted" = no ] && [ "$(basename "$script" | cut -c1-2)" -gt 20 ] 2>/dev/null; then
        substitute
        substituted=yes
    fi
    case "$script" in
        *.envsh) . "$script" ;;
        *.sh) "$script" ;;
    esac
done
[ "$substituted" = yes ] || substitute
exec "$@"
