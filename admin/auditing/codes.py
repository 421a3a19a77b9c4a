"""What our audit rows are called in DICOM: PS3.16 CID 400 to 405."""

from __future__ import annotations

from typing import NamedTuple


class Code(NamedTuple):
    """A coded value (PS3.15 A.5.1, CodedValueType)."""

    value: str
    meaning: str
    system: str = "DCM"


class Kind(NamedTuple):
    """What an action is: the event; whether it creates, reads, updates, deletes or executes; its type."""

    event: Code
    done: str
    type: Code | None = None


BEGIN_TRANSFERRING = Code("110102", "Begin Transferring DICOM Instances")
AUDIT_LOG_USED = Code("110101", "Audit Log Used")
INSTANCES_ACCESSED = Code("110103", "DICOM Instances Accessed")
STUDY_DELETED = Code("110105", "DICOM Study Deleted")
EXPORT = Code("110106", "Export")
IMPORT = Code("110107", "Import")
QUERY = Code("110112", "Query")
SECURITY_ALERT = Code("110113", "Security Alert")
USER_AUTHENTICATION = Code("110114", "User Authentication")

LOGIN = Code("110122", "Login")
_LOGOUT = Code("110123", "Logout")
_CONFIGURATION = Code("110129", "Security Configuration")
_RESTRICTED = Code("110132", "Use of Restricted Function")
_OBJECT_RIGHTS = Code("110135", "Object Security Attributes Changed")
_USER_RIGHTS = Code("110137", "User Security Attributes Changed")

APPLICATION = Code("110150", "Application")
DESTINATION = Code("110152", "Destination Role ID")
SOURCE = Code("110153", "Source Role ID")
DESTINATION_MEDIA = Code("110154", "Destination Media")
SOURCE_MEDIA = Code("110155", "Source Media")
URI = Code("110037", "URI")

PATIENT_NUMBER = Code("2", "Patient Number", "RFC-3881")
AUDIT_LOG = Code("12", "URI", "RFC-3881")
STUDY_UID = Code("110180", "Study Instance UID")
SOP_CLASS_UID = Code("110181", "SOP Class UID")
ROW = Code("audit-row", "Row of the audit trail", "99CLINICPACS")
IDENTITY_EVENT = Code("identity-event", "Event of the identity provider", "99CLINICPACS")


def _alert(type_: Code) -> Kind:
    # Table A.5.3.11-1 allows E alone; what was done stands in the row's own detail.
    return Kind(SECURITY_ALERT, "E", type_)


_KINDS = {
    "study-opened": Kind(INSTANCES_ACCESSED, "R"),
    "studies-searched": Kind(QUERY, "E"),
    "import-begun": Kind(BEGIN_TRANSFERRING, "E"),
    "study-imported": Kind(IMPORT, "C"),
    "archive-sign-in": Kind(USER_AUTHENTICATION, "E", LOGIN),
    "archive-sign-out": Kind(USER_AUTHENTICATION, "E", _LOGOUT),
    "export-audit": Kind(AUDIT_LOG_USED, "R"),
    "backup": Kind(EXPORT, "R"),
    "restore": Kind(IMPORT, "C"),
    "prune-audit": _alert(_CONFIGURATION),
    "delete": Kind(STUDY_DELETED, "D"),
    "delete-finished": Kind(STUDY_DELETED, "D"),
    "share": _alert(_OBJECT_RIGHTS),
    "unshare": _alert(_OBJECT_RIGHTS),
    "transfer": _alert(_OBJECT_RIGHTS),
    "transfer-finished": _alert(_OBJECT_RIGHTS),
    "restore-owner": _alert(_OBJECT_RIGHTS),
    "retry": Kind(IMPORT, "C"),
    "retry-conflict": Kind(IMPORT, "C"),
    "refile": Kind(IMPORT, "C"),
    "add-user": _alert(_USER_RIGHTS),
    "move-user": _alert(_USER_RIGHTS),
    "remove-user": _alert(_USER_RIGHTS),
    "reset-password": _alert(_USER_RIGHTS),
    "add-clinic": _alert(_CONFIGURATION),
    "deactivate-clinic": _alert(_CONFIGURATION),
    "serve-clinic": _alert(_CONFIGURATION),
    "restore-clinic": _alert(_CONFIGURATION),
    "sign-in": Kind(USER_AUTHENTICATION, "E", LOGIN),
    "identity-change": _alert(_USER_RIGHTS),
    "apply-realm": _alert(_CONFIGURATION),
}
_OTHER = _alert(_RESTRICTED)


def kind_of(action: str) -> Kind:
    """What an action is in DICOM; the use of an administrator's function when it is nothing else."""
    return _KINDS.get(action, _OTHER)
