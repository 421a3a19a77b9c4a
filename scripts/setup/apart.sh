# shellcheck shell=bash
# Folders set apart need a compose file of their own; COMPOSE_FILE says which ones are used.

apart=docker-compose.apart.yml
files=$(env_get COMPOSE_FILE)
if [ -n "$(env_get INBOX_PATH)$(env_get PROCESSED_PATH)$(env_get FAILED_PATH)" ]; then
    case :$files: in
        *":$apart:"*) ;;
        *)
            env_set COMPOSE_FILE "${files:-docker-compose.yml}:$apart"
            ok "COMPOSE_FILE: $apart added"
            ;;
    esac
    warn "inbox, processed and failed are set apart: moving a file between them is a copy, not a rename"
elif [[ :$files: == *":$apart:"* ]]; then
    files=":$files:"
    files=${files//":$apart:"/:}
    files=${files#:}
    env_set COMPOSE_FILE "${files%:}"
    ok "COMPOSE_FILE: $apart is no longer needed"
fi
