"""One audit row as an audit message of DICOM (PS3.15 A.5: the schema in A.5.1, events in A.5.3).

A.5.3 asks for the patient of a study, too: rows name no patients, so messages do not either.
"""

from __future__ import annotations

import re
from base64 import b64encode
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from admin.auditing import codes
from pacs.catalog.audit import told_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from admin.auditing.codes import Code

_SYSTEM = "clinicpacs"
_SUCCESS, _SERIOUS_FAILURE = "0", "8"
_MACHINE_NAME, _IP_ADDRESS = "1", "2"
_APPLICATION_SERVER = "4"
_SYSTEM_OBJECT = "2"
_REPORT, _SECURITY_RESOURCE = "3", "13"
# Study Root Query/Retrieve Information Model - FIND: QIDO-RS has no class of its own.
_STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
# XML 1.0 has no way to write these.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_DETAILS = ("action", "clinic_id", "detail", "count", "hash")


def to_xml(row: Mapping[str, Any]) -> str:
    """The element `AuditMessage` of one row, on one line, in no namespace."""
    message = ET.Element("AuditMessage")
    _event(message, row)
    _participants(message, row)
    source = ET.SubElement(message, "AuditSourceIdentification", AuditSourceID=_SYSTEM)
    ET.SubElement(source, "AuditSourceTypeCode", {"csd-code": _APPLICATION_SERVER})
    _objects(message, row)
    return ET.tostring(message, encoding="unicode")


def _event(message: ET.Element, row: Mapping[str, Any]) -> None:
    kind = codes.kind_of(row["action"])
    event = ET.SubElement(
        message,
        "EventIdentification",
        EventActionCode=kind.done,
        EventDateTime=told_time(row["at"]),
        EventOutcomeIndicator=_SUCCESS if row["allowed"] else _SERIOUS_FAILURE,
    )
    _coded(event, "EventID", kind.event)
    if kind.type:
        _coded(event, "EventTypeCode", kind.type)
    if not row["allowed"]:
        ET.SubElement(event, "EventOutcomeDescription").text = "refused, or did not happen"


def _participants(message: ET.Element, row: Mapping[str, Any]) -> None:
    asks = codes.kind_of(row["action"]).event == codes.QUERY
    person = {"UserID": _text(row["subject"]), "UserIsRequestor": "true"}
    if row["username"]:
        person["UserName"] = _text(row["username"])
    if row["source"]:
        person["NetworkAccessPointID"] = _text(row["source"])
        person["NetworkAccessPointTypeCode"] = _IP_ADDRESS if _is_address(row["source"]) else _MACHINE_NAME
    asker = ET.SubElement(message, "ActiveParticipant", person)
    if asks:
        _coded(asker, "RoleIDCode", codes.SOURCE)
    system = ET.SubElement(message, "ActiveParticipant", UserID=_SYSTEM, UserIsRequestor="false")
    _coded(system, "RoleIDCode", codes.DESTINATION if asks else codes.APPLICATION)


def _objects(message: ET.Element, row: Mapping[str, Any]) -> None:
    if row["study_uid"]:
        study = _object(message, row["study_uid"], _REPORT, codes.STUDY_UID)
        ET.SubElement(study, "ParticipantObjectName").text = "Study"
    if codes.kind_of(row["action"]).event == codes.QUERY:
        query = _object(message, _STUDY_ROOT_FIND, _REPORT, codes.SOP_CLASS_UID)
        ET.SubElement(query, "ParticipantObjectQuery").text = _base64(row["detail"])
    written = _object(message, str(row["id"]), _SECURITY_RESOURCE, codes.ROW)
    ET.SubElement(written, "ParticipantObjectName").text = "Row of the audit trail"
    for name in _DETAILS:
        value = _base64(row[name])
        if value:
            ET.SubElement(written, "ParticipantObjectDetail", type=name, value=value)


def _object(message: ET.Element, name: str, role: str, kind: Code) -> ET.Element:
    made = ET.SubElement(
        message,
        "ParticipantObjectIdentification",
        ParticipantObjectID=_text(name),
        ParticipantObjectTypeCode=_SYSTEM_OBJECT,
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
