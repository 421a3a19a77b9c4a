# shellcheck shell=bash
# The certificate that nginx serves. Needs say.sh and env.sh. CERTS_PATH names another folder.
#
# Rights: nginx and certbot run as PACS_UID:PACS_GID in their containers. The key has mode 0600 in a folder with 0700:
# accounts for uploads are of the same group, and must not read it.

: "${CERTS_PATH:=certs}"
CERTIFICATE=$CERTS_PATH/fullchain.pem
PRIVATE_KEY=$CERTS_PATH/privkey.pem
# Browsers refuse certificates that are valid for longer.
readonly MAXIMUM_DAYS=825
readonly RENEW_SECONDS=$((30 * 86400))

# certificate_days: full days that it is still valid; less than 0 when it has ended.
certificate_days() {
    local end
    end=$(openssl x509 -in "$CERTIFICATE" -noout -enddate 2> /dev/null) || return 1
    echo $((($(date -d "${end#*=}" +%s) - $(date +%s)) / 86400))
}

certificate_told() {
    local subject issuer
    subject=$(openssl x509 -in "$CERTIFICATE" -noout -subject -nameopt RFC2253 2> /dev/null) || {
        echo "no certificate that can be read"
        return
    }
    issuer=$(openssl x509 -in "$CERTIFICATE" -noout -issuer -nameopt RFC2253)
    if is_self_signed; then issuer="self-signed"; else issuer="issued by ${issuer#issuer=}"; fi
    echo "${subject#subject=}, $issuer, $(certificate_days) days left"
}

is_self_signed() {
    local subject issuer
    subject=$(openssl x509 -in "$CERTIFICATE" -noout -subject_hash 2> /dev/null) || return 0
    issuer=$(openssl x509 -in "$CERTIFICATE" -noout -issuer_hash)
    [ "$subject" = "$issuer" ]
}

certificate_fits_key() {
    local of_key
    of_key=$(openssl pkey -in "$PRIVATE_KEY" -pubout 2> /dev/null) || return 1
    [ "$(openssl x509 -in "$CERTIFICATE" -noout -pubkey 2> /dev/null)" = "$of_key" ]
}

# certificate_serves NAME: it is there, fits its key, covers the name, and lasts for another month.
certificate_serves() {
    local check=-checkhost
    [[ ! $1 =~ ^[0-9.]+$ ]] || check=-checkip
    certificate_fits_key || return 1
    # openssl tells by its words alone whether the name matches.
    [[ $(openssl x509 -in "$CERTIFICATE" -noout $check "$1") == *"does match"* ]] || return 1
    openssl x509 -in "$CERTIFICATE" -noout -checkend $RENEW_SECONDS > /dev/null
}

# make_self_signed NAME
make_self_signed() {
    local new names="DNS:localhost,IP:127.0.0.1"
    if [[ $1 =~ ^[0-9.]+$ ]]; then names+=",IP:$1"; elif [ "$1" != localhost ]; then names+=",DNS:$1"; fi
    [ -d "$CERTS_PATH" ] || (umask 077 && mkdir -p "$CERTS_PATH")
    new=$(mktemp -d "$CERTS_PATH/.new.XXXXXX")
    # The subject's CN holds 64 characters at most; browsers look at the names only.
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -sha256 -days $MAXIMUM_DAYS \
        -subj "/O=clinicpacs/CN=${1:0:64}" -addext "subjectAltName=$names" \
        -addext "basicConstraints=critical,CA:FALSE" -addext "keyUsage=critical,digitalSignature" \
        -addext "extendedKeyUsage=serverAuth" \
        -keyout "$new/privkey.pem" -out "$new/fullchain.pem" 2> /dev/null
    put_certificate "$new"
    rm -rf "$new"
}

# put_certificate FOLDER: put its two files in place, the old ones beside them, each change a rename.
put_certificate() {
    local name uid gid
    uid=$(setting PACS_UID) gid=$(setting PACS_GID)
    for name in privkey.pem fullchain.pem; do
        [ ! -f "$CERTS_PATH/$name" ] || cp -p "$CERTS_PATH/$name" "$CERTS_PATH/$name.previous"
        cp "$1/$name" "$CERTS_PATH/.$name.new"
        chmod 0600 "$CERTS_PATH/.$name.new"
        if [ -n "$uid" ] && ! chown "$uid:$gid" "$CERTS_PATH/.$name.new" 2> /dev/null; then
            warn "$CERTS_PATH/$name cannot be given to $uid:$gid: nginx could not read it; run this as root"
        fi
    done
    for name in privkey.pem fullchain.pem; do mv -f "$CERTS_PATH/.$name.new" "$CERTS_PATH/$name"; done
}
