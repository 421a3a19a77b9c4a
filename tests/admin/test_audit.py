"""`clinicpacs audit`: listing, verifying, exporting and pruning the trail."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
from sqlalchemy import text

from admin.auditing.codes import _KINDS
from admin.auditing.export import lines
from admin.auditing.messages import to_xml
from admin.directory.events import IdentityEvent
from pacs.catalog import audit, ownership
from pacs.catalog.audit import AuditEvent
from pacs.catalog.ownership import Claim
from pacs.catalog.schema import audit as table
from pacs.catalog.schema import audit_anchors, studies
from pacs.ids import Uid
from support import audit_schema
from support.site import NORTH

if TYPE_CHECKING:
    from pathlib import Path

    from support.site import Site

OPENED = AuditEvent("study-opened", "subject-of-nora", "nora", NORTH, "1.2.3", "192.0.2.7")  # type: ignore[arg-type]
OLD = datetime(2015, 1, 2, 3, 4, 5, tzinfo=UTC)


def write(site: Site, *events: AuditEvent, at: datetime | None = None) -> None:
    with site.catalog.write() as connection:
        audit.extend(connection, events, at or datetime.now(UTC))


def hashes(site: Site) -> list[str]:
    return [row["hash"] for row in sorted(site.rows(table), key=lambda row: row["id"])]


def tamper(site: Site, *statements: str) -> None:
    """As somebody who owns the database."""
    with site.catalog.write() as connection:
        if site.catalog.is_sqlite:
            connection.execute(text("DROP TRIGGER audit_update"))
            connection.execute(text("DROP TRIGGER audit_delete"))
        else:
            connection.execute(text("ALTER TABLE audit DISABLE TRIGGER USER"))
        for statement in statements:
            connection.execute(text(statement))


def test_alone_it_lists_as_list_does(sqlite_site: Site) -> None:
    write(sqlite_site, OPENED, OPENED)
    assert sqlite_site.done("audit") == sqlite_site.done("audit", "list")
    (one,) = sqlite_site.done("audit", "--json", "--limit", "1").splitlines()
    assert json.loads(one)["id"] == 2
    assert sqlite_site.done("audit", "list", "--json", "--limit", "1").strip() == one
    exported = sqlite_site.done("audit", "export").splitlines()
    assert exported[1] == one, "as it is hashed"


@pytest.mark.parametrize("options", [("--limit", "1"), ("--json",)])
def test_options_before_its_own_command_are_refused(sqlite_site: Site, options: tuple[str, ...]) -> None:
    refused = sqlite_site.run("audit", *options, "list")
    assert refused.exit_code == 2
    assert "put the options behind the command: clinicpacs audit list --limit 5" in refused.stderr
    sqlite_site.done("audit", "list", *options)


def test_a_trail_as_it_was_written_verifies_and_names_its_head(sqlite_site: Site) -> None:
    sqlite_site.done("add-clinic", "northside", "Northside")
    write(sqlite_site, OPENED)
    said = sqlite_site.done("audit", "verify")
    assert said == f"2 rows as they were written; head: row 2, {hashes(sqlite_site)[-1]}\n"
    assert said == sqlite_site.done(
        "audit", "verify", "--head", hashes(sqlite_site)[0].upper(), "--head", hashes(sqlite_site)[1]
    )


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE audit SET username = 'rita' WHERE id = 2", "row 2 was changed; 1 row before are"),
        ("DELETE FROM audit WHERE id IN (2, 3)", "rows 2 to 3 were removed; 1 row before are"),
    ],
)
def test_a_broken_trail_is_told_by_its_first_row(sqlite_site: Site, statement: str, told: str) -> None:
    write(sqlite_site, *[OPENED] * 4)
    tamper(sqlite_site, statement)
    result = sqlite_site.run("audit", "verify")
    assert (result.exit_code, result.stdout) == (1, "")
    assert told in result.stderr
    assert sqlite_site.run("audit", "prune").exit_code == 1


def test_a_tail_that_was_cut_off_is_found_by_a_noted_head(sqlite_site: Site) -> None:
    write(sqlite_site, *[OPENED] * 4)
    noted = hashes(sqlite_site)[2]
    tamper(sqlite_site, "DELETE FROM audit WHERE id > 2")
    sqlite_site.done("audit", "verify")
    result = sqlite_site.run("audit", "verify", "--head", noted)
    assert result.exit_code == 1
    assert f"not part of the trail: {noted}" in result.stderr
    assert sqlite_site.run("audit", "verify", "--head", noted[:-1]).exit_code == 2


def test_json_lines_have_every_column_and_chain_up(site: Site) -> None:
    write(site, OPENED, AuditEvent("x", "y", detail='Zoë "z"\n', allowed=False, count=3))
    lines = [json.loads(line) for line in site.done("audit", "export", "--format", "jsonl").splitlines()]
    assert [line["id"] for line in lines] == [1, 2, 3]
    assert {*lines[0]} == {column.name for column in table.columns}
    assert lines[2]["action"] == "export-audit"
    last = audit.START.hash
    for line in lines:
        last = audit.digest(last, line | {"at": datetime.fromisoformat(line["at"])})
        assert line["hash"] == last


def test_an_export_is_of_the_days_that_are_named(sqlite_site: Site) -> None:
    days = [datetime(2026, 1, day, hour).astimezone() for day, hour in ((1, 23), (2, 0), (3, 23), (4, 0))]
    for day in days:
        write(sqlite_site, OPENED, at=day)
    command = ("audit", "export", "--since", "2026-01-02", "--until")
    lines = sqlite_site.done(*command, "2026-01-03").splitlines()
    assert [json.loads(line)["id"] for line in lines] == [2, 3]
    lines = sqlite_site.done(*command, days[2].isoformat()).splitlines()
    assert [json.loads(line)["id"] for line in lines] == [2]
    for wrong in ("yesterday", "2026-01-02T03:04:05", "2026-13-01"):
        assert sqlite_site.run("audit", "export", "--since", wrong).exit_code == 2


def test_an_export_to_a_file_is_there_whole_or_not_at_all(sqlite_site: Site, tmp_path: Path) -> None:
    write(sqlite_site, OPENED)
    path = tmp_path / "audit.xml"
    said = sqlite_site.done("audit", "export", "--format", "dicom", "--output", str(path))
    assert said == f"2 rows written to {path}\n"
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_text()
    assert len(ET.fromstring(before)) == 2
    assert sqlite_site.run("audit", "export", "--output", str(tmp_path / "none" / "a")).exit_code == 2
    # A row that cannot be read.
    tamper(sqlite_site, "UPDATE audit SET at = 'never' WHERE id = 2")
    with pytest.raises(ValueError, match="never"):
        sqlite_site.run("audit", "export", "--output", str(path))
    assert [each.name for each in tmp_path.iterdir() if "audit.xml" in each.name] == ["audit.xml"]
    assert path.read_text() == before


EVERYTHING = [
    OPENED,
    AuditEvent("study-opened", "subject-of-sam", "sam", None, None, "2001:db8::1", allowed=False, count=9),
    AuditEvent("studies-searched", "subject-of-nora", "nora", detail="PatientName=Sample^Aurora"),
    AuditEvent(
        "study-imported", "service:importer", clinic_id=NORTH, source="host-7", detail="stored", count=45
    ),
    AuditEvent("archive-request", '<&"\x00\x0b\ufffe', "]]>\U0001f600", detail="GET /x\r\n\x1b <b>"),
    *(AuditEvent(action, "os:ada", "ada as root", NORTH, source="host-7") for action in _KINDS),
]


SIGN_IN = IdentityEvent("e-1", OLD, "", "no\x00ra", "subject-of-nora", "192.0.2.7", "ohif-viewer", "locked")
CHANGE = IdentityEvent("e-2", OLD, "UPDATE users/7", "", "subject-of-ada", "2001:db8::1", "elsewhere", "")


def row_of(event: AuditEvent, number: int = 1) -> dict[str, Any]:
    return {"id": number, "at": OLD, **vars(event), "hash": "0" * 64}


@pytest.mark.parametrize("event", EVERYTHING, ids=lambda event: f"{event.action} {event.subject[:9]!r}")
def test_a_dicom_message_is_as_the_schema_has_it(event: AuditEvent) -> None:
    for patient_id in ("", "P-1"):
        line = to_xml(row_of(event), patient_id)
        assert "\n" not in line
        assert audit_schema.faults(ET.fromstring(line)) == []


def test_events_of_the_identity_provider_are_rows_without_a_hash() -> None:
    found = [(each.as_row(), "") for each in (SIGN_IN, CHANGE)]
    sign_in, change = (json.loads(line) for line in lines(found, "jsonl"))
    assert {*sign_in} == {column.name for column in table.columns}
    assert (sign_in["action"], sign_in["allowed"], sign_in["hash"]) == ("sign-in", False, None)
    assert (sign_in["username"], sign_in["detail"]) == ("no\x00ra", "client ohif-viewer; locked")
    assert (change["action"], change["allowed"]) == ("identity-change", True)
    assert change["detail"] == "client elsewhere; UPDATE users/7"
    document = ET.fromstring("".join(lines(found, "dicom")))
    assert [fault for message in document for fault in audit_schema.faults(message)] == []
    kinds = [message.find("EventIdentification/EventID").attrib["csd-code"] for message in document]  # type: ignore[union-attr]
    assert kinds == ["110114", "110113"]


def test_the_schemas_rules_find_what_is_wrong() -> None:
    good = to_xml(row_of(OPENED))
    for old, new in (
        ('EventActionCode="R"', 'EventActionCode="X"'),
        ('EventOutcomeIndicator="0"', 'EventOutcomeIndicator="1"'),
        (' codeSystemName="DCM"', ""),
        ('csd-code="110103"', 'code="110103"'),
        ("<ParticipantObjectName>Study</ParticipantObjectName>", ""),
        ("T03:04:05", " 03:04:05"),
        ('UserIsRequestor="true"', 'UserIsRequestor="yes"'),
        ("AuditSourceIdentification", "AuditSource"),
        ('type="hash" value="', 'type="hash" value="?'),
        # What the schema itself allows, and A.5.3 does not.
        ('csd-code="110103"', 'csd-code="110107"'),
        ('EventActionCode="R"', 'EventActionCode="E"'),
        ('UserIsRequestor="true"', 'UserIsRequestor="false"'),
        ('ParticipantObjectTypeCodeRole="3"', 'ParticipantObjectTypeCodeRole="1"'),
    ):
        assert old in good
        assert audit_schema.faults(ET.fromstring(good.replace(old, new))), old
    alert = to_xml(row_of(OPENED) | {"action": "share"})
    assert audit_schema.faults(ET.fromstring(alert)) == []
    assert audit_schema.faults(ET.fromstring(alert.replace('EventActionCode="E"', 'EventActionCode="U"')))


def test_a_dicom_export_tells_who_did_what_to_which_study(sqlite_site: Site) -> None:
    write(sqlite_site, *EVERYTHING[:4])
    document = ET.fromstring(sqlite_site.done("audit", "export", "--format", "dicom"))
    assert [fault for message in document for fault in audit_schema.faults(message)] == []
    opened, refused, searched, imported, exported = document
    codes = [message.find("EventIdentification/EventID").attrib["csd-code"] for message in document]  # type: ignore[union-attr]
    assert codes == ["110103", "110103", "110112", "110107", "110101"]
    person = opened.find("ActiveParticipant")
    assert person is not None
    assert person.attrib == {
        "UserID": "subject-of-nora",
        "UserIsRequestor": "true",
        "UserName": "nora",
        "NetworkAccessPointID": "192.0.2.7",
        "NetworkAccessPointTypeCode": "2",
    }
    study = opened.find("ParticipantObjectIdentification")
    assert study is not None
    assert study.attrib["ParticipantObjectID"] == "1.2.3"
    assert study.find("ParticipantObjectIDTypeCode[@csd-code='110180']") is not None
    outcomes = [each.find("EventIdentification").attrib["EventOutcomeIndicator"] for each in document]  # type: ignore[union-attr]
    assert outcomes == ["0", "8", "0", "0", "0"]
    assert refused.find("EventIdentification/EventOutcomeDescription") is not None
    query = searched.findtext(".//ParticipantObjectQuery")
    assert query == "UGF0aWVudE5hbWU9U2FtcGxlXkF1cm9yYQ=="
    assert imported.find("ActiveParticipant").attrib["NetworkAccessPointTypeCode"] == "1"  # type: ignore[union-attr]
    hashed = exported.find(".//ParticipantObjectDetail[@type='hash']")
    assert hashed is not None


def test_a_study_is_exported_with_its_patients_id_as_far_as_it_is_known(site: Site) -> None:
    site.add_clinics()
    of_study = AuditEvent("study-opened", "subject-of-nora", study_uid=Uid("1.2.3"))
    of_patient = ".//ParticipantObjectIdentification[@ParticipantObjectTypeCode='1']"

    def told() -> list[str | None]:
        document = ET.fromstring(site.done("audit", "export", "--format", "dicom"))
        assert [fault for message in document for fault in audit_schema.faults(message)] == []
        return [each.get("ParticipantObjectID") for each in document.iterfind(of_patient)]

    claim = Claim(NORTH, Uid("1.2.3"), Uid("1.2.3.1"), "P <1>")
    with site.catalog.write() as connection:
        ownership.reserve(connection, claim, OLD)
        audit.extend(connection, [of_study, replace(of_study, study_uid=Uid("1.2.4"))], OLD)
    assert told() == ["P <1>"]
    assert "P <1>" not in site.done("audit", "export"), "which is of rows alone, to be verified"
    with site.catalog.write() as connection:
        connection.execute(studies.update().values(state="deleted", patient_id=""))
    assert told() == []


def test_pruning_deletes_what_is_older_and_the_rest_verifies(site: Site) -> None:
    write(site, *[OPENED] * 5, at=OLD)
    write(site, OPENED)
    last = hashes(site)[4]
    assert site.done("audit", "prune", "--dry-run") == "5 rows older than 3650 days would be deleted\n"
    assert len(site.rows(table)) == 6
    assert site.done("audit", "prune", AUDIT_KEEP_DAYS="0") == "AUDIT_KEEP_DAYS is 0: all is kept\n"
    assert site.done("audit", "prune") == "5 rows older than 3650 days deleted\n"
    assert [(row["id"], row["action"]) for row in site.rows(table)] == [
        (6, "study-opened"),
        (7, "prune-audit"),
    ]
    assert [(row["id"], row["hash"]) for row in site.rows(audit_anchors)] == [(5, last)]
    assert site.done("audit", "verify", "--head", last).startswith("2 rows as they were written")
    assert site.done("audit", "prune") == "0 rows older than 3650 days deleted\n"
    assert len(site.rows(table)) == 2
    result = site.run("audit", "verify", "--head", "0" * 63 + "1")
    assert "or it was pruned (the trail begins behind row 5)" in result.stderr


def test_a_backup_and_a_restore_are_exports_and_imports_of_everything(site: Site) -> None:
    name = "clinicpacs-20260102T030405Z"
    for action, *options in (("backup", "--include-dicom"), ("restore",)):
        site.done("backup", "record", action, name, *options, CLINICPACS_OPERATOR="ada")
    rows = site.rows(table)
    assert [(row["action"], row["detail"]) for row in rows] == [
        ("backup", f"{name} with images"),
        ("restore", name),
    ]
    assert all(row["username"].startswith("ada as ") for row in rows)
    messages = [ET.fromstring(to_xml(row)) for row in rows]
    assert [fault for message in messages for fault in audit_schema.faults(message)] == []
    events = [message.find("EventIdentification") for message in messages]
    told = [(each.get("EventActionCode"), each[0].get("csd-code")) for each in events if each is not None]
    assert told == [("R", "110106"), ("C", "110107")]
    for message in messages:
        assert message.findall("ActiveParticipant")[1].get("UserID") == "backups"
    assert "not the name of a backup" in site.run("backup", "record", "backup", "../x").stderr


def test_the_backup_before_an_upgrade_is_made_without_a_row(site: Site) -> None:
    tamper(site, "UPDATE alembic_version SET version_num = '9999'")
    result = site.run("backup", "record", "backup", "clinicpacs-20260102T030405Z")
    assert (result.exit_code, "not in the audit trail" in result.stderr) == (0, True)
    assert site.rows(table) == []


def test_a_trail_that_somebody_changed_is_pruned_by_force_only(sqlite_site: Site) -> None:
    write(sqlite_site, *[OPENED] * 3, at=OLD)
    tamper(sqlite_site, "UPDATE audit SET username = 'rita' WHERE id = 2")
    result = sqlite_site.run("audit", "prune")
    assert (result.exit_code, len(sqlite_site.rows(table))) == (1, 3)
    assert "does not verify (changed, row 2)" in result.stderr
    sqlite_site.done("audit", "prune", "--force")
    assert [row["action"] for row in sqlite_site.rows(table)] == ["prune-audit"]


def test_rows_of_an_interrupted_pruning_are_told_and_deleted_by_the_next(sqlite_site: Site) -> None:
    write(sqlite_site, *[OPENED] * 3, at=OLD)
    last = hashes(sqlite_site)[2]
    write(sqlite_site, AuditEvent("prune-audit", "os:ada", detail=f"up to row 3, hash {last}"))
    with sqlite_site.catalog.write() as connection:
        connection.execute(audit_anchors.insert().values(id=3, hash=last, pruned_at=OLD + timedelta(days=1)))
    assert "3 rows of a pruning are left" in sqlite_site.done("audit", "verify")
    assert "3 rows" in sqlite_site.done("audit", "prune")
    assert len(sqlite_site.rows(table)) == 1


def test_who_signed_in_is_asked_of_the_identity_provider(sqlite_site: Site) -> None:
    result = sqlite_site.run("audit", "sign-ins", "--failed")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "keeps no record of who signed in" in result.stderr
    result = sqlite_site.run("audit", "export", "--with-sign-ins")
    assert (result.exit_code, result.stdout) == (2, "")
    result = sqlite_site.run("audit", "sign-ins", IDENTITY_PATH=None)
    assert (result.exit_code, "no identity provider" in result.stderr) == (2, True)
