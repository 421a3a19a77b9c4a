#!/bin/bash
# Roles and databases of their own for orthanc, keycloak and catalog, and roles that are guests in the catalog:
# `catalog_service` for our services, `audit_pruner` and `monitor`.
#
# The image runs it once, when it makes the cluster, and `make up` each time: for a role of a newer version, a
# lost right or a new password.
# Passwords reach psql through the environment: never in an argument, never in a log.
set -euo pipefail

for name in ORTHANC_DB_PASSWORD KEYCLOAK_DB_PASSWORD CATALOG_DB_PASSWORD CATALOG_SERVICE_DB_PASSWORD \
    AUDIT_PRUNER_DB_PASSWORD MONITOR_DB_PASSWORD; do
    if [ -z "${!name:-}" ]; then
        echo "10-databases.sh: $name is not set" >&2
        exit 1
    fi
done

exec psql --no-psqlrc --quiet --no-password --set ON_ERROR_STOP=1 \
    --username "${POSTGRES_USER:-postgres}" --dbname postgres --file - >/dev/null <<'SQL'
-- A statement that fails is neither logged nor shown: it may hold a password.
\set VERBOSITY terse
SET log_min_error_statement TO panic;
SET log_min_duration_statement TO -1;
SET log_statement TO none;
SET client_min_messages TO warning;

\getenv orthanc_password ORTHANC_DB_PASSWORD
\getenv keycloak_password KEYCLOAK_DB_PASSWORD
\getenv catalog_password CATALOG_DB_PASSWORD
\getenv catalog_service_password CATALOG_SERVICE_DB_PASSWORD
\getenv audit_pruner_password AUDIT_PRUNER_DB_PASSWORD
\getenv monitor_password MONITOR_DB_PASSWORD

SELECT format('CREATE ROLE %I', name)
FROM unnest(ARRAY['orthanc', 'keycloak', 'catalog', 'catalog_service', 'audit_pruner', 'monitor']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec

ALTER ROLE orthanc WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'orthanc_password';
ALTER ROLE keycloak WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'keycloak_password';
ALTER ROLE catalog WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'catalog_password';
ALTER ROLE catalog_service WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'catalog_service_password';
ALTER ROLE audit_pruner WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'audit_pruner_password';
ALTER ROLE monitor WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'monitor_password';

-- The locale does not depend on the image's: a sort order that changes with the image would break indexes.
SELECT format('CREATE DATABASE %I OWNER %I TEMPLATE template0 ENCODING ''UTF8'' LOCALE ''C.UTF-8''', name, name)
FROM unnest(ARRAY['orthanc', 'keycloak', 'catalog']) AS name
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = name)
\gexec

-- Each role gets into its own database only; superusers get everywhere.
REVOKE ALL ON DATABASE orthanc, keycloak, catalog, postgres, template1 FROM PUBLIC;
GRANT ALL ON DATABASE orthanc TO orthanc;
GRANT ALL ON DATABASE keycloak TO keycloak;
GRANT ALL ON DATABASE catalog TO catalog;

-- A way into the catalog; what they may do there is granted by `clinicpacs migrate`. And server statistics.
GRANT CONNECT ON DATABASE catalog TO catalog_service, audit_pruner, monitor;
GRANT pg_monitor TO monitor;
SQL
