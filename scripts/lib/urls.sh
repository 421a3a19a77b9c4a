# shellcheck shell=bash
# Where the platform is reached. Needs say.sh and env.sh.

show_urls() {
    local origin
    origin=$(setting PUBLIC_URL https://localhost)
    while IFS='|' read -r path what; do
        say "$(printf '%-36s%s%s' "$what" "$origin" "$path")"
    done << 'TABLE'
/|viewer (OHIF)
/auth/admin|users and sign-in (Keycloak)
/grafana|dashboards (Grafana)
/orthanc|archive (Orthanc; role pacs-admin)
/dicom-web|DICOMweb, for programs
TABLE
}

# url_path SERVICE: where people reach it; nothing for what they do not.
url_path() {
    case $1 in
        nginx) echo / ;;
        gateway) echo /dicom-web ;;
        keycloak) echo /auth/admin ;;
        grafana) echo /grafana ;;
        orthanc) echo /orthanc ;;
    esac
}
