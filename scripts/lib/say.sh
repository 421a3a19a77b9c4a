# shellcheck shell=bash
# How our scripts talk: progress on stdout, warnings and faults on stderr, colour on a terminal only.

if [ -t 1 ] && [ -t 2 ] && [ -z "${NO_COLOR:-}" ]; then
    _bold=$'\e[1m' _green=$'\e[32m' _yellow=$'\e[33m' _red=$'\e[31m' _plain=$'\e[0m'
else
    _bold='' _green='' _yellow='' _red='' _plain=''
fi

# step TEXT: what begins now.
step() { printf '%s==> %s%s\n' "$_bold" "$*" "$_plain"; }

# ok TEXT: what is right, or was done.
ok() { printf '    %s%s%s\n' "$_green" "$*" "$_plain"; }

# say TEXT: anything else.
say() { printf '    %s\n' "$*"; }

# warn TEXT: the script goes on.
warn() { printf '    %swarning: %s%s\n' "$_yellow" "$*" "$_plain" >&2; }

# die TEXT...: one line an argument, then exit 1.
die() {
    printf '%serror: %s%s\n' "$_red" "$1" "$_plain" >&2
    shift
    [ $# = 0 ] || printf '       %s\n' "$@" >&2
    exit 1
}

# usage_error TEXT: wrong use of a command, exit 2.
usage_error() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 2
}

# is_yes VALUE: 1, yes, true, in any case.
is_yes() { [[ "${1:-}" =~ ^(1|[Yy]|[Yy][Ee][Ss]|[Tt][Rr][Uu][Ee])$ ]]; }

# confirm QUESTION: true when YES says so or the person at the terminal does; without a terminal it is a no.
confirm() {
    local answer=''
    is_yes "${YES:-}" && return 0
    [ -t 0 ] || return 1
    read -r -p "    $1 [y/N] " answer || return 1
    is_yes "$answer"
}

# age SECONDS: 42 s, 5 min, 3 h, 2 d.
age() {
    if (($1 >= 172800)); then echo "$(($1 / 86400)) d"
    elif (($1 >= 7200)); then echo "$(($1 / 3600)) h"
    elif (($1 >= 120)); then echo "$(($1 / 60)) min"
    else echo "$1 s"; fi
}

# size BYTES: 512 B, 40 MB, 3.2 GB.
size() {
    if (($1 >= 1000000000)); then echo "$(($1 / 1000000000)).$(($1 / 100000000 % 10)) GB"
    elif (($1 >= 1000000)); then echo "$(($1 / 1000000)) MB"
    elif (($1 >= 1000)); then echo "$(($1 / 1000)) kB"
    else echo "$1 B"; fi
}
