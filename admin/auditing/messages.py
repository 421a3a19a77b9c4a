"""One audit row as an audit message of DICOM (PS3.15 A.5: the schema in A.5.1, events in A.5.3).

A.5.3 asks for a study's patient, too. Rows do not tell, and must not: they outlast a study that is deleted.
So it is the PatientID that the catalog has at the time of the export, where it has one, and nobody's name.
"""

from __future__ import annotations

import re
from base64 import b64encode
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from admin.auditing import codes
from pacs.catalog.audit import iso_utc

if TYPE_CHECKING:
    from collections.abc import Mapping

    from admin.auditing.codes import Code, Kind

_SYSTEM = "clinicpacs"
_SUCCESS, _SERIOUS_FAILURE = "0", "8"
_MACHINE_NAME, _IP_ADDRESS = "1", "2"
_APPLICATION_SERVER = "4"
_PERSON, _SYSTEM_OBJECT = "1", "2"
_PATIENT, _REPORT, _SECURITY_RESOURCE = "1", "3", "13"
# Roles that A.5.3 requires of the actor and of the other side; the default is Application.
_ROLES: dict[Code, tuple[Code, Code]] = {
    codes.QUERY: (codes.SOURCE, codes.DESTINATION),
    codes.BEGIN_TRANSFERRING: (codes.SOURCE, codes.DESTINATION),
    codes.EXPORT: (codes.SOURCE, codes.DESTINATION_MEDIA),
    codes.IMPORT: (codes.DESTINATION, codes.SOURCE_MEDIA),
}
_OF_ONE_PATIENT = {codes.BEGIN_TRANSFERRING, codes.INSTANCES_ACCESSED, codes.STUDY_DELETED, codes.IMPORT}
# Study Root Query/Retrieve Information Model - FIND: QIDO-RS has no class of its own.
_STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
# XML 1.0 has no way to write these.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_DETAILS = ("action", "clinic_id", "detail", "count", "hash")


def to_xml(row: Mapping[str, Any], patient_id: str = "") -> str:
    """The element `AuditMessage` of one row, on one line, in no namespace; the patient is its study's."""
    message = ET.Element("AuditMessage")
    kind = codes.kind_of(row["action"])
    _event(message, row, kind)
    _participants(message, row, kind.event)
    source = ET.SubElement(message, "AuditSourceIdentification", AuditSourceID=_SYSTEM)
    ET.SubElement(source, "AuditSourceTypeCode", {"csd-code": _APPLICATION_SERVER})
    _objects(message, row, kind.event, patient_id)
    return ET.tostring(message, encoding="unicode")


def _event(message: ET.Element, row: Mapping[str, Any], kind: Kind) -> None:
    event = ET.SubElement(
        message,
        "EventIdentification",
        EventActionCode=kind.done,
        EventDateTime=iso_utc(row["at"]),
        EventOutcomeIndicator=_SUCCESS if row["allowed"] else _SERIOUS_FAILURE,
    )
    _coded(event, "EventID", kind.event)
    if kind.type:
        _coded(event, "EventTypeCode", kind.type)
    if not row["allowed"]:
        ET.SubElement(
            event, "EventOutcomeDescription"
        ).text = "refused, or failed; part of it may have happened"


def _participants(message: ET.Element, row: Mapping[str, Any], event: Code) -> None:
    own, other = _ROLES.get(event, (None, codes.APPLICATION))
    person = {"UserID": _text(row["subject"]), "UserIsRequestor": "true"}
    if row["username"]:
        person["UserName"] = _text(row["username"])
    if row["source"]:
        person["NetworkAccessPointID"] = _text(row["source"])
        person["NetworkAccessPointTypeCode"] = _IP_ADDRESS if _is_address(row["source"]) else _MACHINE_NAME
    asker = ET.SubElement(message, "ActiveParticipant", person)
    if own:
        _coded(asker, "RoleIDCode", own)
    media = other in {codes.SOURCE_MEDIA, codes.DESTINATION_MEDIA}
    name = _SYSTEM
    if media:
        name = f"inbox/{row['clinic_id']}" if row["clinic_id"] else "backups"
    system = ET.SubElement(message, "ActiveParticipant", UserID=name, UserIsRequestor="false")
    _coded(system, "RoleIDCode", other)
    if media:
        _coded(ET.SubElement(system, "MediaIdentifier"), "MediaType", codes.URI)


def _objects(message: ET.Element, row: Mapping[str, Any], event: Code, patient_id: str) -> None:
    if row["study_uid"]:
        study = _object(message, row["study_uid"], _REPORT, codes.STUDY_UID)
        ET.SubElement(study, "ParticipantObjectName").text = "Study"
    if patient_id and event in _OF_ONE_PATIENT:
        patient = _object(message, patient_id, _PATIENT, codes.PATIENT_NUMBER, what=_PERSON)
        # The schema demands it, and may do without a word in it.
        ET.SubElement(patient, "ParticipantObjectName")
    if event == codes.QUERY:
        query = _object(message, _STUDY_ROOT_FIND, _REPORT, codes.SOP_CLASS_UID)
        ET.SubElement(query, "ParticipantObjectQuery").text = _base64(row["detail"])
    if event == codes.AUDIT_LOG_USED:
        log = _object(message, f"{_SYSTEM}:audit", _SECURITY_RESOURCE, codes.AUDIT_LOG)
        ET.SubElement(log, "ParticipantObjectName").text = "Security Audit Log"
    code = codes.ROW if row["hash"] else codes.IDENTITY_EVENT
    written = _object(message, str(row["id"]), _SECURITY_RESOURCE, code)
    ET.SubElement(written, "ParticipantObjectName").text = code.meaning
    for name in _DETAILS:
        value = _base64(row[name])
        if value:
            ET.SubElement(written, "ParticipantObjectDetail", type=name, value=value)


def _object(
    message: ET.Element, name: str, role: str, kind: Code, *, what: str = _SYSTEM_OBJECT
) -> ET.Element:
    made = ET.SubElement(
        message,
        "ParticipantObjectIdentification",
        ParticipantObjectID=_text(name),
        ParticipantObjectTypeCode=what,
        ParticipantObjectTypeCodeRole=role,
    )
    _coded(made, "ParticipantObjectIDTypeCode", kind)
    return made


def _coded(parent: ET.Element, name: str, code: Code) -> None:
    attributes = {"csd-code": code.value, "codeSystemName": code.system, "originalText": code.meaning}
    ET.SubElement(parent, name, attributes)


def _text(value: str) -> str:
    return _NOT_XML.sub("\ufffd", value)


def _base64(value: object) -> str:
    """Free text, which may hold anything, is told so by the schema."""
    return b64encode(str(value if value is not None else "").encode()).decode("ascii")


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
