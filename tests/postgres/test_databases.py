"""postgres/: every role in its own database only, and a server log without passwords and patients."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import errors

from support import patient_data, postgres
from support.corpus import PATIENTS
from support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parents[2] / "postgres"
SCRIPT = FOLDER / "init" / "10-databases.sh"
OWNERS = ("orthanc", "keycloak", "catalog")
# They own nothing, and get into the catalog.
GUESTS = ("catalog_service", "audit_pruner", "monitor")
# Quotes, backslashes and psql's own variables must come through as they are.
PASSWORDS = {role: f'{role}\'s \\"geheim" $1 :monitor_password' for role in (*OWNERS, *GUESTS)}


def variable(role: str) -> str:
    return f"{role.upper()}_DB_PASSWORD"


@dataclass
class Server:
    """A cluster as the image makes it: the superuser comes in by the socket, all others by a password."""

    folder: Path
    bin: Path
    port: int = field(default_factory=free_port)

    def start(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres")
        data, config = self.folder / "data", self.folder / "postgresql.conf"
        shutil.copyfile(FOLDER / "postgresql.conf", config)
        self._run(
            "initdb",
            "-D",
            str(data),
            "-U",
            "postgres",
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            "-N",
        )
        options = (
            f"-c config_file={config} -c listen_addresses=127.0.0.1 -c port={self.port} -c fsync=off "
            f"-c unix_socket_directories={self.folder} -c shared_buffers=16MB"
        )
        self._run("pg_ctl", "-D", str(data), "-w", "-s", "-l", str(self.log), "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "-w", "-s", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def log(self) -> Path:
        return self.folder / "postgres.log"

    def told(self) -> str:
        return self.log.read_text(errors="replace")

    def make_databases(self, script: Path = SCRIPT, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the script as the image's entry point does, in a login of the superuser's."""
        env = {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "PGHOST": str(self.folder),
            "PGPORT": str(self.port),
        }
        env |= {variable(role): word for role, word in PASSWORDS.items()} | variables
        return subprocess.run(
            ["bash", str(script)], env=env, capture_output=True, text=True, timeout=30, check=False
        )

    def connect(self, role: str, database: str, password: str = "") -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=role,
            dbname=database,
            password=password or PASSWORDS[role],
            connect_timeout=10,
            autocommit=True,
        )

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self.bin / program), *arguments]
        if os.geteuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        subprocess.run(
            command, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, cwd="/", timeout=60
        )


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    binaries = postgres.binaries()
    if binaries is None:
        reason = "PostgreSQL's server is not installed"
        if os.environ.get("CI"):
            pytest.fail(f"CI must have it: {reason}")
        pytest.skip(reason)
    made = Server(Path(tempfile.mkdtemp(prefix="clinicpacs-pg-")), binaries)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def databases(server: Server) -> Server:
    """With its databases, and every password as in PASSWORDS."""
    done = server.make_databases()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return server


@pytest.mark.parametrize("role", OWNERS)
def test_an_owner_makes_tables_in_its_own_database(databases: Server, role: str) -> None:
    with databases.connect(role, role) as connection:
        connection.execute("DROP TABLE IF EXISTS things")
        connection.execute("CREATE TABLE things (name text)")
        # What Orthanc's plugin asks for.
        connection.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
        found = connection.execute("SELECT datcollate FROM pg_database WHERE datname = current_database()")
        assert found.fetchone() == ("C.UTF-8",)


@pytest.mark.parametrize("role", [*OWNERS, *GUESTS])
def test_nobody_gets_into_anothers_database(databases: Server, role: str) -> None:
    own = {"catalog"} if role in GUESTS else {role}
    for database in {*OWNERS, "postgres", "template1"} - own:
        with pytest.raises(psycopg.OperationalError, match="does not have CONNECT privilege"):
            databases.connect(role, database)


@pytest.mark.parametrize("role", [*OWNERS, *GUESTS])
def test_a_role_has_no_rights_of_the_server(databases: Server, role: str) -> None:
    with databases.connect(role, "catalog" if role in GUESTS else role) as connection:
        for statement in (
            "CREATE ROLE another",
            "CREATE DATABASE another",
            "COPY (SELECT 1) TO PROGRAM 'true'",
            "SELECT pg_read_file('/etc/passwd')",
            "SET log_statement TO 'all'",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(statement)


def test_monitor_sees_the_server_and_no_table(databases: Server) -> None:
    with databases.connect("catalog", "catalog") as owner:
        owner.execute("CREATE TABLE IF NOT EXISTS patients (name text)")
        with databases.connect("monitor", "catalog") as connection:
            for statement in ("SELECT * FROM patients", "CREATE TABLE mine (name text)"):
                with pytest.raises(errors.InsufficientPrivilege):
                    connection.execute(statement)
            sizes = connection.execute(
                "SELECT datname, pg_database_size(datname) FROM pg_database"
            ).fetchall()
            assert {name for name, _ in sizes} >= set(OWNERS)
            of_others = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE usename = 'catalog' AND query NOT LIKE '<%'"
            )
            assert of_others.fetchone() == (1,)


def test_run_again_it_keeps_what_is_there_and_sets_new_passwords(databases: Server) -> None:
    with databases.connect("catalog", "catalog") as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (name text)")
    done = databases.make_databases(CATALOG_DB_PASSWORD="another word")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        databases.connect("catalog", "catalog")
    with databases.connect("catalog", "catalog", "another word") as connection:
        connection.execute("DROP TABLE kept")


@pytest.mark.parametrize("role", [*OWNERS, *GUESTS])
def test_a_missing_password_is_named_before_anything_is_changed(databases: Server, role: str) -> None:
    other = "catalog" if role == "orthanc" else "orthanc"
    changed = {variable(role): "", variable(other): "changed"}
    done = databases.make_databases(SCRIPT, **changed)
    assert done.returncode == 1
    assert done.stderr == f"10-databases.sh: {variable(role)} is not set\n"
    databases.connect(other, other).close()


def test_no_patient_and_no_password_gets_into_the_log(databases: Server) -> None:
    patient = PATIENTS["kazakh"]
    with databases.connect("catalog", "catalog") as connection:
        connection.execute("DROP TABLE IF EXISTS persons")
        connection.execute("CREATE TABLE persons (id text PRIMARY KEY, name varchar(64) CHECK (name <> id))")
        connection.execute("INSERT INTO persons VALUES (%s, 'x')", [patient.id])
        for statement, parameters in (
            ("INSERT INTO persons VALUES (%s, %s)", [patient.id, patient.name]),
            ("INSERT INTO persons VALUES (%s, %s)", [patient.name, patient.name]),
            ("INSERT INTO persons VALUES (NULL, %s)", [patient.name]),
            ("INSERT INTO persons VALUES (%s, repeat(%s, 99))", [f"{patient.id}9", patient.name]),
            (f"SELECT '{patient.name}' FROM nowhere", []),
            (f"INSERT INTO persons VALUES (NULL, '{patient.name}')", []),
        ):
            with pytest.raises(psycopg.Error):
                connection.execute(statement.encode(), parameters)
    told = databases.told()
    assert "duplicate key value violates" in told
    assert patient_data.find(told) is None, told
    assert "geheim" not in told


@pytest.mark.parametrize(
    "fault",
    [("ALTER ROLE catalog", "ALTER ROLE nobody"), ("PASSWORD :'catalog", "PASSWOR :'catalog")],
    ids=["in what it does", "in how it is written"],
)
def test_a_script_that_fails_tells_no_password(
    databases: Server, tmp_path: Path, fault: tuple[str, str]
) -> None:
    faulty = tmp_path / "faulty.sh"
    faulty.write_text(SCRIPT.read_text().replace(*fault))
    # As on a server with other settings than ours.
    done = databases.make_databases(faulty, PGOPTIONS="-c log_min_error_statement=error")
    assert done.returncode != 0
    assert "ERROR:" in done.stderr
    told = done.stderr + databases.told()
    assert "geheim" not in told
