#!/bin/sh
# Has nginx take up a certificate that was renewed: certbot, or an administrator, puts it into the mounted folder.
set -eu

configuration=/etc/nginx/nginx.conf
folder=/etc/nginx/certs
pid_file=/tmp/nginx.pid
seconds=60

fingerprint() {
    cat "$folder/fullchain.pem" "$folder/privkey.pem" 2>/dev/null | cksum
}

watch() {
    served=$(fingerprint)
    told=$served
    echo "nginx: a new certificate in $folder will be taken up"
    while sleep "$seconds"; do
        found=$(fingerprint)
        if [ "$found" = "$served" ] || [ ! -s "$pid_file" ]; then continue; fi
        # Certificate and key are two files: until they fit, the test fails and the old ones stay in use.
        if said=$(nginx -t -q -c "$configuration" 2>&1) && kill -HUP "$(cat "$pid_file")"; then
            served=$found
            echo "nginx: the certificate has changed; reloading"
        elif [ "$found" != "$told" ]; then
            told=$found
            reason=$(echo "$said" | sed -n '/\[emerg\]/{s/.*\[emerg\] *//;p;q;}')
            echo "nginx: the new certificate is not taken up, the old one stays: $reason"
        fi
    done
}

# The entrypoint reads the names of its scripts from stdin.
watch </dev/null &
