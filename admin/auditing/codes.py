"""What our audit rows are called in DICOM: PS3.16 CID 400, 401 and 402."""

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


AUDIT_LOG_USED = Code("110101", "Audit Log Used")
INSTANCES_ACCESSED = Code("110103", "DICOM Instances Accessed")
STUDY_DELETED = Code("110105", "DICOM Study Deleted")
IMPORT = Code("110107", "Import")
QUERY = Code("110112", "Query")
SECURITY_ALERT = Code("110113", "Security Alert")
USER_AUTHENTICATION = Code("110114", "User Authentication")

LOGIN = Code("110122", "Login")
_CONFIGURATION = Code("110129", "Security Configuration")
_RESTRICTED = Code("110132", "Use of Restricted Function")
_OBJECT_RIGHTS = Code("110135", "Object Security Attributes Changed")
_USER_RIGHTS = Code("110137", "User Security Attributes Changed")

APPLICATION = Code("110150", "Application")
DESTINATION = Code("110152", "Destination Role ID")
SOURCE = Code("110153", "Source Role ID")

STUDY_UID = Code("110180", "Study Instance UID")
SOP_CLASS_UID = Code("110181", "SOP Class UID")
ROW = Code("audit-row", "Row of the audit trail", "99CLINICPACS")

_KINDS = {
    "study-opened": Kind(INSTANCES_ACCESSED, "R"),
    "studies-searched": Kind(QUERY, "E"),
    "study-imported": Kind(IMPORT, "C"),
    "archive-sign-in": Kind(USER_AUTHENTICATION, "E", LOGIN),
    "export-audit": Kind(AUDIT_LOG_USED, "R"),
    "prune-audit": Kind(SECURITY_ALERT, "D", _CONFIGURATION),
    "delete": Kind(STUDY_DELETED, "D"),
    "delete-finished": Kind(STUDY_DELETED, "D"),
    "share": Kind(SECURITY_ALERT, "U", _OBJECT_RIGHTS),
    "unshare": Kind(SECURITY_ALERT, "U", _OBJECT_RIGHTS),
    "transfer": Kind(SECURITY_ALERT, "U", _OBJECT_RIGHTS),
    "transfer-finished": Kind(SECURITY_ALERT, "U", _OBJECT_RIGHTS),
    "restore-owner": Kind(SECURITY_ALERT, "U", _OBJECT_RIGHTS),
    "retry": Kind(IMPORT, "E"),
    "retry-conflict": Kind(IMPORT, "E"),
    "refile": Kind(IMPORT, "E"),
    "add-user": Kind(SECURITY_ALERT, "C", _USER_RIGHTS),
    "move-user": Kind(SECURITY_ALERT, "U", _USER_RIGHTS),
    "remove-user": Kind(SECURITY_ALERT, "D", _USER_RIGHTS),
    "reset-password": Kind(SECURITY_ALERT, "U", _USER_RIGHTS),
    "add-clinic": Kind(SECURITY_ALERT, "C", _CONFIGURATION),
    "deactivate-clinic": Kind(SECURITY_ALERT, "U", _CONFIGURATION),
    "serve-clinic": Kind(SECURITY_ALERT, "U", _CONFIGURATION),
    "restore-clinic": Kind(SECURITY_ALERT, "C", _CONFIGURATION),
    "apply-realm": Kind(SECURITY_ALERT, "U", _CONFIGURATION),
}
_OTHER = Kind(SECURITY_ALERT, "E", _RESTRICTED)


def kind_of(action: str) -> Kind:
    """What an action is in DICOM; the use of an administrator's function when it is nothing else."""
    return _KINDS.get(action, _OTHER)
