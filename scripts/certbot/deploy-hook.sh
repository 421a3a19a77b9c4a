#!/bin/sh
# certbot runs this after each issue, with the folder of the new certificate in RENEWED_LINEAGE.
# Both files are put in place by a rename; nginx notices them and reloads.
set -eu

CERTS=${CERTS:-/certs}
for name in privkey.pem fullchain.pem; do
    if cmp -s "$RENEWED_LINEAGE/$name" "$CERTS/$name"; then continue; fi
    [ ! -f "$CERTS/$name" ] || cp -p "$CERTS/$name" "$CERTS/$name.previous"
    cp -L "$RENEWED_LINEAGE/$name" "$CERTS/.$name.new"
    chmod 0600 "$CERTS/.$name.new"
    mv -f "$CERTS/.$name.new" "$CERTS/$name"
    echo "$name put in place"
done
