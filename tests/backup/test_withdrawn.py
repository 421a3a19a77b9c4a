"""What was withdrawn since a backup and comes back with it: the script's questions to a real PostgreSQL."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import make_url

from pacs.catalog import Catalog
from pacs.catalog.audit import AuditEvent, append

if TYPE_CHECKING:
    from support.postgres import Cluster

ROOT = Path(__file__).parents[2]
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

# Those of Keycloak's tables and columns that are asked for.
KEYCLOAK = """
CREATE TABLE realm (id text, name text);
CREATE TABLE user_entity (id text, username text, enabled boolean, realm_id text);
CREATE TABLE keycloak_group (id text, name text);
CREATE TABLE user_group_membership (user_id text, group_id text);
CREATE TABLE keycloak_role (id text, name text);
CREATE TABLE user_role_mapping (user_id text, role_id text);
INSERT INTO realm VALUES ('r1', 'clinicpacs'), ('r2', 'master');
INSERT INTO user_entity VALUES ('1', 'nora', true, 'r1'), ('2', 'sam', true, 'r1'), ('3', 'rita', true, 'r1');
INSERT INTO keycloak_group VALUES ('g1', 'northside'), ('g2', 'southside');
INSERT INTO keycloak_role VALUES ('k1', 'radiologist'), ('k2', 'default-roles-clinicpacs');
INSERT INTO user_group_membership VALUES ('1', 'g1'), ('2', 'g1');
INSERT INTO user_role_mapping VALUES ('3', 'k1'), ('2', 'k2');
"""

# The one seam: psql over this cluster's socket instead of the container's.
ASK = r"""
set -euo pipefail
. scripts/lib/say.sh
. scripts/lib/withdrawn.sh
psql_of() {
    local database=$1
    shift
    psql --no-psqlrc --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 \
        --host "$SOCKET" --username postgres --dbname "${!database}" "$@"
}
tell_what_is_lost
tell_what_comes_back "$FILE"
"""


@dataclass
class Databases:
    """Two catalogs and two of Keycloak's, by the names that the script has for them."""

    cluster: Cluster
    urls: dict[str, str]
    file: Path

    def sql(self, name: str, *statements: str) -> None:
        database = make_url(self.urls[name]).database
        with psycopg.connect(
            host=str(self.cluster.folder), user="postgres", dbname=database, autocommit=True
        ) as connection:
            for statement in statements:
                connection.execute(statement)

    def audit(self, name: str, *events: AuditEvent) -> None:
        catalog = Catalog.open(SecretStr(self.urls[name]))
        with catalog.write() as connection:
            for number, event in enumerate(events):
                append(connection, event, AT + timedelta(minutes=number))
        catalog.close()

    def ask(self) -> tuple[str, list[str]]:
        """What is said, and the lines of the list."""
        names = {name: str(make_url(url).database) for name, url in self.urls.items()}
        done = subprocess.run(
            ["bash", "-c", ASK],
            cwd=ROOT,
            env={
                "PATH": "/usr/bin:/bin",
                "SOCKET": str(self.cluster.folder),
                "FILE": str(self.file),
                **names,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout, self.file.read_text().splitlines() if self.file.exists() else []


@pytest.fixture
def databases(postgres_cluster: Cluster, tmp_path: Path) -> Databases:
    """As a backup has them: what is done to the old ones came after it."""
    names = ("catalog", "catalog_restored", "keycloak", "keycloak_restored")
    urls = {name: postgres_cluster.new_database() for name in names}
    made = Databases(postgres_cluster, urls, tmp_path / "withdrawn.txt")
    for name in names[2:]:
        made.sql(name, KEYCLOAK)
    for name in names[:2]:
        made.audit(name, event("unshare", "with westside, was until 2026-02-01", "1.1"))
    return made


def event(action: str, detail: str = "", study_uid: str | None = None, *, allowed: bool = True) -> AuditEvent:
    return AuditEvent(
        action=action,
        subject="os:ada",
        username="ada",
        clinic_id="northside" if study_uid else None,
        study_uid=study_uid,
        source="server",
        allowed=allowed,
        detail=detail,
    )


def test_the_same_databases_tell_nothing(databases: Databases) -> None:
    assert databases.ask() == ("", [])


def test_what_commands_withdrew_is_listed_in_their_order(databases: Databases) -> None:
    databases.audit(
        "catalog",
        event("unshare", "with westside, was until 2026-02-01", "1.4"),
        event("add-user", "sam northside"),
        event("move-user", "nora: northside, radiologist -> southside"),
        event("transfer", "to southside", "1.2"),
        event("delete", "wrong\npatient", "1.3"),
        event("remove-user", "rita (failed; part of it may have happened)", allowed=False),
        event("remove-user", "sam"),
    )
    said, lines = databases.ask()
    # Not the share's end that the backup has, too.
    assert lines == [
        "2026-01-02T03:04:05Z unshare northside 1.4 with westside, was until 2026-02-01",
        "2026-01-02T03:06:05Z move-user nora: northside, radiologist -> southside",
        "2026-01-02T03:07:05Z transfer northside 1.2 to southside",
        "2026-01-02T03:08:05Z delete northside 1.3 wrong patient",
        "2026-01-02T03:10:05Z remove-user sam",
    ]
    assert "given back by it: 1 delete, 1 move-user, 1 remove-user, 1 transfer, 1 unshare\n" in said


def test_what_was_done_on_keycloak_s_own_pages_is_listed_too(databases: Databases) -> None:
    databases.sql(
        "keycloak",
        "UPDATE user_entity SET enabled = false WHERE username = 'sam'",
        "DELETE FROM user_role_mapping WHERE user_id = '3'",
        "UPDATE user_group_membership SET group_id = 'g2' WHERE user_id = '1'",
        "INSERT INTO user_entity VALUES ('4', 'ada', true, 'r1')",
    )
    said, lines = databases.ask()
    assert lines == [
        "Keycloak: clinic northside of nora",
        "Keycloak: clinic northside of sam",
        "Keycloak: role radiologist of rita",
        "Keycloak: user sam",
    ]
    assert "users added since the backup, to be added again: ada\n" in said


def test_a_long_list_is_told_in_part_and_written_whole(databases: Databases) -> None:
    databases.audit("catalog", *(event("delete", study_uid=f"1.{number}") for number in range(100, 150)))
    said, lines = databases.ask()
    assert len(lines) == 50
    assert said.count(" northside 1.1") == 20
    assert "50 delete" in said


def test_another_machine_s_users_were_not_withdrawn(databases: Databases) -> None:
    """Its Keycloak is a new one, and its catalog's trail begins anew."""
    databases.sql("keycloak", "UPDATE realm SET id = 'r9'", "UPDATE user_entity SET realm_id = 'r9'")
    databases.sql("keycloak", "DELETE FROM user_entity WHERE username = 'sam'")
    assert databases.ask() == ("", [])


def test_databases_that_are_gone_tell_nothing_and_it_is_said(databases: Databases) -> None:
    databases.sql("catalog", "DROP TABLE audit CASCADE")
    databases.sql("keycloak", "DROP TABLE realm, user_entity")
    said, lines = databases.ask()
    assert lines == []
    assert "no audit trail is left here" in said
