#!/bin/bash
# Roles and databases of their own for orthanc, keycloak and catalog, and the role `monitor`.
#
# The image runs it once, when it makes the cluster. It can be run again at any time, for a lost right or a
# new password: docker compose exec postgres bash /docker-entrypoint-initdb.d/10-databases.sh
# Passwords reach psql through the environment: never in an argument, never in a log.
set -euo pipefail

for name in ORTHANC_DB_PASSWORD KEYCLOAK_DB_PASSWORD CATALOG_DB_PASSWORD MONITOR_DB_PASSWORD; do
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
\getenv monitor_password MONITOR_DB_PASSWORD

SELECT format('CREATE ROLE %I', name)
FROM unnest(ARRAY['orthanc', 'keycloak', 'catalog', 'monitor']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec

ALTER ROLE orthanc WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'orthanc_password';
ALTER ROLE keycloak WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'keycloak_password';
ALTER ROLE catalog WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'catalog_password';
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

-- Server statistics, and a way into the catalog; what it may read there is granted by a migration.
GRANT pg_monitor TO monitor;
GRANT CONNECT ON DATABASE catalog TO monitor;
SQL
