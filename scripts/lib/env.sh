# shellcheck shell=bash
# .env as Docker Compose reads it, without ever running it: a value is data, whatever it holds.
# Needs say.sh. ENV_FILE names another file.

: "${ENV_FILE:=.env}"

# _env_find NAME FILE: leaves the last line that assigns NAME in _line; false where there is none.
# By the shell's own means, because this is asked hundreds of times.
_env_find() {
    local line lines
    _line=''
    [ -f "$2" ] || return 1
    mapfile -t lines < "$2"
    for line in "${lines[@]}"; do
        if [[ $line == *$1*=* && $line =~ ^[[:space:]]*(export[[:space:]]+)?$1[[:space:]]*= ]]; then _line=$line; fi
    done
    [ -n "$_line" ]
}

# env_has NAME [FILE]: whether a line assigns it, be it to nothing.
env_has() { _env_find "$1" "${2:-$ENV_FILE}"; }

# env_get NAME [FILE]: its value; nothing where it is not assigned.
env_get() {
    local value _line
    _env_find "$1" "${2:-$ENV_FILE}" || true
    value=${_line#*=}
    value=${value%$'\r'}
    value=${value#"${value%%[![:space:]]*}"}
    case $value in
        \'*) value=${value#\'} && value=${value%%\'*} ;;
        \"*) _unquote "$value" ;;
        \#*) value='' ;;
        *)
            value=${value%%[[:space:]]#*}
            value=${value%"${value##*[![:space:]]}"}
            ;;
    esac
    printf '%s\n' "$value"
}

# _unquote TEXT: leaves what stands between its double quotes in value.
_unquote() {
    local rest=${1#\"} char
    value=''
    while [ -n "$rest" ]; do
        char=${rest:0:1} rest=${rest:1}
        [ "$char" != '"' ] || break
        if [ "$char" = "\\" ]; then char=${rest:0:1} rest=${rest:1}; fi
        value+=$char
    done
}

# setting NAME [DEFAULT]: as compose sees it: the environment, then .env, then the default.
setting() {
    local value=${!1:-}
    [ -n "$value" ] || value=$(env_get "$1")
    printf '%s\n' "${value:-${2:-}}"
}

# env_quoted VALUE: as it must stand in .env so that compose takes it literally.
env_quoted() {
    local value=$1
    if [[ $value =~ ^[A-Za-z0-9_./:@%+,=~-]*$ ]]; then
        printf '%s' "$value"
    elif [[ $value != *[\'\\]* ]]; then
        printf "'%s'" "$value"
    else
        value=${value//\\/\\\\}
        value=${value//\"/\\\"}
        printf '"%s"' "${value//\$/\\\$}"
    fi
}

# env_set NAME VALUE: assign it where it stands, or at the end; the file keeps mode 600 and is replaced whole.
env_set() {
    local target new line done=''
    [[ $1 =~ ^[A-Z][A-Z0-9_]*$ ]] || die "$1 is no name of a setting"
    [[ $2 != *[[:cntrl:]]* ]] || die "the value of $1 holds a control character or a line break"
    target=$(readlink -f "$ENV_FILE")
    new=$(umask 077 && mktemp "$target.XXXXXX")
    if [ -f "$target" ]; then
        while IFS= read -r line || [ -n "$line" ]; do
            if [[ $line =~ ^[[:space:]]*(export[[:space:]]+)?$1[[:space:]]*= ]]; then
                [ -z "$done" ] || continue
                line="$1=$(env_quoted "$2")" done=1
            fi
            printf '%s\n' "$line" || die "$ENV_FILE cannot be written"
        done < "$target" > "$new" || die "$ENV_FILE cannot be written"
    fi
    [ -n "$done" ] || printf '%s=%s\n' "$1" "$(env_quoted "$2")" >> "$new" || die "$ENV_FILE cannot be written"
    mv -f "$new" "$target"
}

# env_names [FILE]: every name that is assigned, in order.
env_names() { sed -nE 's/^[[:space:]]*(export[[:space:]]+)?([A-Za-z_][A-Za-z0-9_]*)[[:space:]]*=.*/\2/p' "${1:-$ENV_FILE}"; }

# env_missing FILE OTHER: the names that FILE assigns and OTHER, if it is there, does not.
env_missing() {
    local known=''
    if [ -f "$2" ]; then known=$(env_names "$2"); fi
    grep -vxF -e "${known:--}" < <(env_names "$1") || true
}

# env_with_comment NAME FILE: the line that assigns it, and the comment lines right above.
env_with_comment() {
    awk -v name="$1" '/^#/ { text = text $0 "\n"; next } index($0, name "=") == 1 { print text $0; exit } { text = "" }' "$2"
}

# env_filled_by_setup FILE: the names whose comment says so.
env_filled_by_setup() {
    awk -F = '/^#/ { said = said $0; next } said ~ /\(setup\.sh fills this\)/ { print $1 } { said = "" }' "$1"
}

# random_secret [LENGTH]: letters and digits only, so that no shell, URL or compose file can stumble over it.
random_secret() {
    local length=${1:-40} text=''
    while ((${#text} < length)); do
        text+=$(head -c 256 /dev/urandom | LC_ALL=C tr -dc 'A-Za-z0-9')
    done
    printf '%s\n' "${text:0:length}"
}
