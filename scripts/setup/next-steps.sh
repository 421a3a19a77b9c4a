# shellcheck shell=bash
# What a new administrator does next.

if [ -n "$images_missing" ]; then
    die "not all images could be fetched or built; everything else is done" \
        "check the network (a proxy? set it for the Docker daemon) and run ./scripts/setup.sh again" \
        "or copy the images here: docs/ADMIN.md, A server without internet"
fi

step "Done. Next:"
cat <<TEXT
    make up                                                             start the platform
    make add-clinic CLINIC_ID=northside CLINIC_NAME="Northside Clinic"  a clinic and its inbox
    make add-user USERNAME=nora EMAIL=nora@northside.example CLINIC=northside
    ./clinicpacs --help                                                 all other commands

    $(env_get PUBLIC_URL)   (users: as added; administration: user admin, KEYCLOAK_ADMIN_PASSWORD in $ENV_FILE)

    Uploads by host users (Samba, SFTP): their accounts join group $(env_get PACS_GID); docs/ADMIN.md, Uploads by host users
    Alerts: set ALERT_EMAIL_TO and SMTP_HOST, or TELEGRAM_BOT_TOKEN, in $ENV_FILE, then make up
    Checks: ./clinicpacs verify, every week by cron; docs/ADMIN.md, Processed files
    Backups: make backup, and every night by cron; keep a copy of $ENV_FILE elsewhere
TEXT
