"""Catalogs with many studies of forty clinics: made once, kept under .cache/bench, used in place.

To make them by hand, which takes minutes: `PYTHONPATH=tests python -m bench.servers.catalog_data 1000000`.
"""

from __future__ import annotations

import multiprocessing
import random
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import psycopg
from pydantic import SecretStr

from bench.servers import postgresql
from pacs.archive import ArchivedStudy
from pacs.catalog import Catalog, clinics, worklist
from pacs.ids import ClinicId, Uid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.servers.postgresql import Server

ROOT = Path(__file__).parents[2] / ".cache" / "bench"
DATABASES = ROOT / "catalogs-pg"
"""The data of a PostgreSQL server that holds all the catalogs."""

CLINICS = tuple(ClinicId(f"clinic-{number:02}") for number in range(40))
"""The first has a tenth of the studies, the others between a third and twice their share of the rest."""
_WEIGHTS = (100, *(7 + 33 * number // 38 for number in range(39)))
_MODALITIES = {
    ("CT",): 2000, ("CR",): 2000, ("DX",): 1700, ("MR",): 1500, ("US",): 1400, ("CT", "SR"): 500,
    ("MG",): 500, ("XA",): 200, ("NM",): 100, ("PT", "CT"): 95, ("XC",): 5,
}  # fmt: skip
_BODY = ("head", "thorax", "abdomen", "knee", "spine", "shoulder", "hip", "pelvis", "hand", "neck")
_SYLLABLES = ("ba", "cor", "del", "fen", "gra", "hol", "jun", "kes", "lim", "mor", "nav", "os", "pel", "rin",
              "sul", "tam", "ul", "ver", "wen", "zor")  # fmt: skip
_FIRST_DAY, _DAYS = date(2015, 1, 1), 4000
_CHUNK = 5000


def sqlite_url(studies: int) -> str:
    """URL of an SQLite catalog with so many; made if need be."""
    path = ROOT / f"catalog-{studies}-{_version()}.db"
    if not path.exists():
        ROOT.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part")
        for old in (partial, *ROOT.glob(f"catalog-{studies}-*.db*")):
            old.unlink(missing_ok=True)
        _fill_sqlite(partial, studies)
        partial.rename(path)
    return f"sqlite:///{path}"


def postgresql_url(server: Server, studies: int) -> str:
    """URL of the same catalog on a server that runs on `DATABASES`; copied from the SQLite one if need be."""
    name = f"catalog_{studies}_{_version()}"
    with psycopg.connect(host=str(server.folder), user="postgres", autocommit=True) as connection:
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
        if not found:
            old = connection.execute(
                "SELECT datname FROM pg_database WHERE datname LIKE %s", [f"catalog_{studies}_%"]
            ).fetchall()
            for (other,) in [*old, ("partial",)]:
                connection.execute(f"DROP DATABASE IF EXISTS {other}")
            connection.execute("CREATE DATABASE partial TEMPLATE template0")
            _copy(Path(sqlite_url(studies).removeprefix("sqlite:///")), server.cluster.url("partial"))
            connection.execute(f"ALTER DATABASE partial RENAME TO {name}")
    catalog = Catalog.connect(SecretStr(server.cluster.url(name)))
    catalog.migrate()
    catalog.close()
    return server.cluster.url(name)


@cache
def _version() -> str:
    """Of most that decides about what is in a catalog; a newer schema is migrated to."""
    package = Path(worklist.__file__).parent
    read = [Path(__file__), *(package / f"{name}.py" for name in ("terms", "prepared"))]
    return sha256(b"".join(path.read_bytes() for path in read)).hexdigest()[:8]


@dataclass(frozen=True)
class Study:
    """What study `number` says; the same number always says the same."""

    clinic: ClinicId
    patient: int
    name: str
    day: date
    time: str
    modalities: tuple[str, ...]
    body: str

    @classmethod
    def of(cls, number: int) -> Study:
        chance = random.Random(number)
        patient = chance.randrange(1 + number // 3)
        person = random.Random(-1 - patient)
        return cls(
            clinic=person.choices(CLINICS, _WEIGHTS)[0],
            patient=patient,
            name=f"{_surname(person)}^{_word(person, 2)}",
            day=_FIRST_DAY + timedelta(days=chance.randrange(_DAYS)),
            time=f"{chance.randrange(7, 19):02}{chance.randrange(60):02}{chance.randrange(60):02}",
            modalities=chance.choices(list(_MODALITIES), list(_MODALITIES.values()))[0],
            body=chance.choice(_BODY),
        )


def _surname(person: random.Random) -> str:
    """One in 30 holds the letters "ampl"."""
    if person.randrange(30):
        return _word(person, 3)
    return person.choice(("Sample", "Ampleford", "Exampler", "Samplewood"))


def _word(person: random.Random, syllables: int) -> str:
    return "".join(person.choices(_SYLLABLES, k=syllables)).capitalize()


def _row(number: int) -> dict[str, Any]:
    study = Study.of(number)
    uid = Uid(f"1.2.826.0.1.3680043.10.1422.{number}")
    series = tuple(
        {
            "0020000E": {"vr": "UI", "Value": [f"{uid}.{each}"]},
            "00080060": {"vr": "CS", "Value": [modality]},
            "00201209": {"vr": "IS", "Value": [100]},
        }
        for each, modality in enumerate(study.modalities)
    )
    said = {
        "00080005": ("CS", "ISO_IR 100"),
        "00080020": ("DA", f"{study.day:%Y%m%d}"),
        "00080030": ("TM", study.time),
        "00080050": ("SH", f"A{number:08}"),
        "00080090": ("PN", {"Alphabetic": f"Ref^{_word(random.Random(number % 500), 2)}"}),
        "00081030": ("LO", f"{study.modalities[0]} of the {study.body}"),
        "00100010": ("PN", {"Alphabetic": study.name}),
        "00100020": ("LO", f"P{study.patient:07}"),
        "00100030": ("DA", f"{1930 + study.patient % 90}0101"),
        "00100040": ("CS", "FM"[study.patient % 2]),
        "0020000D": ("UI", uid),
        "00200010": ("SH", f"S{number}"),
    }
    archived = ArchivedStudy(
        uid, {tag: {"vr": vr, "Value": [value]} for tag, (vr, value) in said.items()}, series
    )
    stamp = "2026-01-02 03:04:05.000000"
    return {
        "study_uid": uid,
        "clinic_id": study.clinic,
        "patient_id": f"P{study.patient:07}",
        "state": "confirmed",
        "revision": 1,
        "settled": 1,
        "reserved_at": stamp,
        "changed_at": stamp,
        **worklist.columns(archived, f"P{study.patient:07}"),
    }


def _rows(first: int) -> list[dict[str, Any]]:
    return [_row(number) for number in range(first, first + _CHUNK)]


def _fill_sqlite(path: Path, studies: int) -> None:
    _add_clinics(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as connection, multiprocessing.Pool() as makers:
        connection.execute("PRAGMA synchronous=OFF")
        again = _without_indexes(connection)
        for rows in makers.imap(_rows, range(0, studies, _CHUNK)):
            names = ", ".join(rows[0])
            holes = ", ".join(f":{name}" for name in rows[0])
            connection.executemany(f"INSERT INTO studies ({names}) VALUES ({holes})", rows)
        connection.execute("INSERT INTO study_terms (study_terms) VALUES ('rebuild')")
        for statement in again:
            connection.execute(statement)
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _without_indexes(connection: sqlite3.Connection) -> list[str]:
    """Drop indexes and triggers; what makes them again."""
    found = connection.execute(
        "SELECT type, name, sql FROM sqlite_master "
        "WHERE tbl_name = 'studies' AND type IN ('index', 'trigger') AND sql IS NOT NULL"
    ).fetchall()
    for kind, name, _ in found:
        connection.execute(f"DROP {kind} {name}")
    return [sql for _, _, sql in found]


def _add_clinics(url: str) -> None:
    catalog = Catalog.connect(SecretStr(url))
    catalog.migrate()
    with catalog.write() as connection:
        for clinic in CLINICS:
            clinics.add(connection, clinic, clinic.capitalize(), datetime.now(UTC))
    catalog.close()


def _copy(source: Path, url: str) -> None:
    _add_clinics(url)
    with (
        closing(sqlite3.connect(source)) as old,
        psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as new,
    ):
        indexes = new.execute(
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'studies' AND indexname LIKE 'ix_%'"
        ).fetchall()
        for name, _ in indexes:
            new.execute(f"DROP INDEX {name}")
        rows = old.execute("SELECT * FROM studies")
        names = ", ".join(each[0] for each in rows.description)
        with new.cursor().copy(f"COPY studies ({names}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        for _, definition in indexes:
            new.execute(definition)
        # What autovacuum does within minutes.
        new.execute("VACUUM ANALYZE")


def examples(studies: int) -> Iterator[Study]:
    """Studies of the first clinic, for what is searched."""
    return (
        study for number in range(studies // 2, studies) if (study := Study.of(number)).clinic == CLINICS[0]
    )


@click.command()
@click.argument("studies", type=int)
def main(studies: int) -> None:
    """Make them on both databases."""
    click.echo(sqlite_url(studies))
    with postgresql.running(DATABASES) as server:
        click.echo(postgresql_url(server, studies))


if __name__ == "__main__":
    main()
