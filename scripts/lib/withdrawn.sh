# shellcheck shell=bash disable=SC2034
# What a restore takes away, and what it gives back although it was withdrawn since the backup: told by the databases that
# it replaces, while the restored ones lie beside them. Needs backup.sh.

# A password that was reset counts, too: the old one is valid again.
readonly WITHDRAWALS="
    SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') || ' ' || action || ' '
        || regexp_replace(concat_ws(' ', clinic_id, study_uid, detail), '[[:cntrl:]]+', ' ', 'g')
    FROM audit WHERE allowed AND action IN ('deactivate-clinic', 'delete', 'move-user', 'remove-user', 'reset-password', 'transfer', 'unshare')"

# Keycloak's own pages leave no line in our audit trail.
readonly RIGHTS="
    WITH people AS (SELECT user_entity.id, username FROM user_entity JOIN realm ON realm.id = realm_id
        WHERE realm.name = 'clinicpacs' AND user_entity.enabled)
    SELECT 'Keycloak: user ' || username FROM people
    UNION SELECT 'Keycloak: clinic ' || name || ' of ' || username
        FROM people JOIN user_group_membership ON user_id = people.id JOIN keycloak_group ON keycloak_group.id = group_id
    UNION SELECT 'Keycloak: role ' || name || ' of ' || username
        FROM people JOIN user_role_mapping ON user_id = people.id JOIN keycloak_role ON keycloak_role.id = role_id
        WHERE name NOT LIKE 'default-roles-%'"

readonly SHOWN_WITHDRAWALS=20

# only_in DATABASE OTHER SQL: the rows of the first that the other does not have.
only_in() {
    LC_ALL=C comm -23 <(psql_of "$1" --command "$3" | LC_ALL=C sort) <(psql_of "$2" --command "$3" | LC_ALL=C sort)
}

has_audit_trail() { psql_of catalog --command 'SELECT FROM audit LIMIT 1' > /dev/null 2>&1; }

# is_same_realm: not so on a new machine, whose Keycloak has no users yet, or others.
is_same_realm() {
    local query="SELECT id FROM realm WHERE name = 'clinicpacs'" here
    here=$(psql_of keycloak --command "$query" 2> /dev/null) && [ -n "$here" ] && [ "$here" = "$(psql_of keycloak_restored --command "$query")" ]
}

tell_what_is_lost() {
    local lost
    lost=$(only_in catalog catalog_restored 'SELECT id FROM clinics' 2> /dev/null)
    [ -z "$lost" ] || warn "clinics added since the backup, to be added again:" "${lost//$'\n'/ }"
    lost=$(only_in keycloak keycloak_restored "SELECT username FROM user_entity JOIN realm ON realm.id = realm_id WHERE realm.name = 'clinicpacs'" 2> /dev/null)
    [ -z "$lost" ] || warn "users added since the backup, to be added again:" "${lost//$'\n'/ }"
}

# tell_what_comes_back FILE: writes it there, tells the first lines, and leaves all of them in withdrawn.
tell_what_comes_back() {
    has_audit_trail || warn "no audit trail is left here: what was withdrawn since the backup (users, shares, studies) cannot be told"
    mapfile -t withdrawn < <(
        if has_audit_trail; then only_in catalog catalog_restored "$WITHDRAWALS"; fi
        if is_same_realm; then only_in keycloak_restored keycloak "$RIGHTS"; fi
    )
    [ ${#withdrawn[@]} -gt 0 ] || return 0
    (umask 077 && printf '%s\n' "${withdrawn[@]}" > "$1")
    warn "WITHDRAWN SINCE THE BACKUP, and given back by it:" \
        "$(printf '%s\n' "${withdrawn[@]}" | cut -d ' ' -f 2 | sort | uniq -c | awk '{ printf "%s%s %s", (NR > 1 ? ", " : ""), $1, $2 }')"
    printf '        %s\n' "${withdrawn[@]:0:SHOWN_WITHDRAWALS}" >&2
    warn "all of it is in $1"
}
