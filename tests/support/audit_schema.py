"""The rules of the audit message's schema (PS3.15 A.5.1.1), and what A.5.3 demands of single events.

Stricter than the schema in two things: a token may hold any space there, and what kind a source is may be a
code of one's own.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from xml.etree.ElementTree import Element

    Check = Callable[[str], object]


def token(text: str) -> bool:
    return text == " ".join(text.split())


def text(_text: str) -> bool:
    return True


def base64(encoded: str) -> bool:
    return bool(re.fullmatch(r"([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?", encoded))


def moment(told: str) -> bool:
    return bool(re.fullmatch(r"-?\d{4,}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?", told))


def boolean(told: str) -> bool:
    return told in {"true", "false", "0", "1"}


def one_of(*values: str) -> Check:
    return lambda told: told in values


class Rule(NamedTuple):
    """Attributes by name, children in their order with how often they may stand there, and the text.

    A `?` behind an attribute's or a child's name: it may be missing; `*` any number, `+` at least one.
    """

    attributes: dict[str, Check]
    children: tuple[str, ...] = ()
    content: Check | None = None


CODED = Rule({"csd-code": token, "codeSystemName": token, "displayName?": token, "originalText": token})
NUMBERS = [str(number) for number in range(1, 27)]
RULES = {
    "AuditMessage": Rule(
        {},
        (
            "EventIdentification",
            "ActiveParticipant+",
            "AuditSourceIdentification",
            "ParticipantObjectIdentification*",
        ),
    ),
    "EventIdentification": Rule(
        {
            "EventActionCode?": one_of(*"CRUDE"),
            "EventDateTime": moment,
            "EventOutcomeIndicator": one_of("0", "4", "8", "12"),
        },
        ("EventID", "EventTypeCode*", "EventOutcomeDescription?"),
    ),
    "EventID": CODED,
    "EventTypeCode": CODED,
    "EventOutcomeDescription": Rule({}, (), text),
    "ActiveParticipant": Rule(
        {
            "UserID": text,
            "AlternativeUserID?": text,
            "UserName?": text,
            "UserIsRequestor": boolean,
            "NetworkAccessPointID?": token,
            "NetworkAccessPointTypeCode?": one_of(*NUMBERS[:5]),
        },
        ("RoleIDCode*", "MediaIdentifier?"),
    ),
    "RoleIDCode": CODED,
    "MediaIdentifier": Rule({}, ("MediaType",)),
    "MediaType": CODED,
    "AuditSourceIdentification": Rule(
        {"AuditEnterpriseSiteID?": token, "AuditSourceID": token}, ("AuditSourceTypeCode*",)
    ),
    "AuditSourceTypeCode": Rule({"csd-code": one_of(*NUMBERS[:9])}),
    "ParticipantObjectIdentification": Rule(
        {
            "ParticipantObjectID": token,
            "ParticipantObjectTypeCode?": one_of(*NUMBERS[:4]),
            "ParticipantObjectTypeCodeRole?": one_of(*NUMBERS),
            "ParticipantObjectDataLifeCycle?": one_of(*NUMBERS[:15]),
            "ParticipantObjectSensitivity?": token,
        },
        (
            "ParticipantObjectIDTypeCode",
            "ParticipantObjectName|ParticipantObjectQuery",
            "ParticipantObjectDetail*",
            "ParticipantObjectDescription*",
        ),
    ),
    "ParticipantObjectIDTypeCode": CODED,
    "ParticipantObjectName": Rule({}, (), token),
    "ParticipantObjectQuery": Rule({}, (), base64),
    "ParticipantObjectDetail": Rule({"type": token, "value": base64}),
}


class Event(NamedTuple):
    """What A.5.3 demands: one of these actions, these roles, objects of these kinds."""

    actions: str
    roles: frozenset[str] = frozenset()
    objects: frozenset[str] = frozenset()


EVENTS = {
    "110101": Event("R", objects=frozenset({"12"})),
    "110102": Event("E", roles=frozenset({"110153", "110152"})),
    "110103": Event("CRUD"),
    "110105": Event("D"),
    "110106": Event("R", roles=frozenset({"110153", "110154"})),
    "110107": Event("C", roles=frozenset({"110152", "110155"})),
    "110112": Event("E", roles=frozenset({"110153", "110152"}), objects=frozenset({"110181"})),
    "110113": Event("E"),
    "110114": Event("E"),
}
_KINDS_OF_OBJECTS = {
    "2": ("1", "1"),
    "12": ("2", "13"),
    "110180": ("2", "3"),
    "110181": ("2", "3"),
    "audit-row": ("2", "13"),
    "identity-event": ("2", "13"),
}
"""Type and role by the code of what identifies it."""
_OFTEN = {"*": r"*", "+": r"+", "?": r"?"}


def faults(element: Element) -> list[str]:
    """What of an element the schema does not allow."""
    rule = RULES.get(element.tag)
    if rule is None:
        return [f"there is no element {element.tag}"]
    found = [*_attributes(element, rule), *_content(element, rule)]
    if not re.fullmatch(_pattern(rule), "".join(f"<{child.tag}>" for child in element)):
        found.append(f"{element.tag} holds {[child.tag for child in element]}")
    if element.tag == "AuditMessage" and not found:
        found += _demands(element)
    return found + [fault for child in element for fault in faults(child)]


def _demands(message: Element) -> list[str]:
    (happened,) = message.findall("EventIdentification")
    kind = message.find("EventIdentification/EventID")
    event = EVENTS.get(kind.get("csd-code", "")) if kind is not None else None
    if event is None:
        return ["no event of A.5.3"]
    roles = {role.get("csd-code", "") for role in message.iterfind("ActiveParticipant/RoleIDCode")}
    asks = [each for each in message.iterfind("ActiveParticipant") if each.get("UserIsRequestor") == "true"]
    found = [f"nobody is {role}" for role in event.roles - roles]
    found += [] if len(asks) == 1 else ["not one who asks for it"]
    if happened.get("EventActionCode", "") not in event.actions:
        found.append(f"it cannot be done by {happened.get('EventActionCode')}")
    objects = set()
    for each in message.iterfind("ParticipantObjectIdentification"):
        code = each.find("ParticipantObjectIDTypeCode")
        name = code.get("csd-code", "") if code is not None else ""
        objects.add(name)
        place = (each.get("ParticipantObjectTypeCode"), each.get("ParticipantObjectTypeCodeRole"))
        if place != _KINDS_OF_OBJECTS.get(name):
            found.append(f"an object by {name} is {place}")
    return found + [f"no object by {name}" for name in event.objects - objects]


def _attributes(element: Element, rule: Rule) -> list[str]:
    checks = {name.rstrip("?"): check for name, check in rule.attributes.items()}
    required = {name for name in rule.attributes if not name.endswith("?")}
    found = [f"{element.tag} lacks {name}" for name in required - element.attrib.keys()]
    for name, value in element.attrib.items():
        if name not in checks or not checks[name](value):
            found.append(f"{element.tag}@{name}={value!r}")
    return found


def _content(element: Element, rule: Rule) -> list[str]:
    said = element.text or ""
    good = rule.content(said) if rule.content else not said.strip()
    return [] if good else [f"{element.tag}: {said!r}"]


def _pattern(rule: Rule) -> str:
    return "".join(
        f"(?:{'|'.join(f'<{each}>' for each in name.rstrip('*+?').split('|'))}){_OFTEN.get(name[-1], '')}"
        for name in rule.children
    )
