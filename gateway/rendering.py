"""Parameters of rendered resources (PS3.18 section 8.3.5.1), parsed and made anew.

The bounds are not only good manners: asked for a viewport of 99999,99999 Orthanc 1.10.1 dies (measured).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gateway.paths import Kind, Target
from gateway.problems import BadRequest

if TYPE_CHECKING:
    from werkzeug.datastructures import MultiDict

SIDE_MAX = 4096
THUMBNAIL_SIDE = 128
_SIDE = r"[1-9][0-9]{0,3}"
_NUMBER = r"-?[0-9]{1,7}(?:\.[0-9]{1,6})?"
_SIZE = re.compile(rf"({_SIDE}),({_SIDE})")
_VIEWPORT = re.compile(rf"({_SIDE}),({_SIDE})(?:(?:,-?[0-9]{{1,5}}){{4}})?")
# Literals of PS3.18's grammar have no case (RFC 5234 section 2.3).
_WINDOW = re.compile(
    rf"{_NUMBER},[0-9]{{1,7}}(?:\.[0-9]{{1,6}})?,(?:linear|linear-exact|sigmoid)", re.IGNORECASE | re.ASCII
)
_QUALITY = re.compile(r"[1-9][0-9]?|100")


def parse_rendering(target: Target, arguments: MultiDict[str, str]) -> str:
    """The query for the archive, of parsed values only; parameters that are not known are ignored.

    Raises:
        BadRequest: one of them is malformed or out of bounds.
    """
    if target.kind is Kind.THUMBNAIL:
        size = _matched(arguments, "viewport", _SIZE, f"WIDTH,HEIGHT, each 1 to {SIDE_MAX}")
        return f"viewport={size or f'{THUMBNAIL_SIDE},{THUMBNAIL_SIDE}'}"
    found = {
        "viewport": _matched(
            arguments, "viewport", _VIEWPORT, f"WIDTH,HEIGHT[,X,Y,WIDTH,HEIGHT], sides 1 to {SIDE_MAX}"
        ),
        "window": _matched(
            arguments, "window", _WINDOW, "CENTRE,WIDTH,FUNCTION: linear, linear-exact or sigmoid"
        ),
        "quality": _matched(arguments, "quality", _QUALITY, "a number from 1 to 100"),
    }
    return "&".join(f"{name}={value}" for name, value in found.items() if value)


def _matched(
    arguments: MultiDict[str, str], name: str, pattern: re.Pattern[str], expected: str
) -> str | None:
    values = arguments.getlist(name)
    if not values:
        return None
    found = pattern.fullmatch(values[0]) if len(values) == 1 else None
    if found is None or any(int(side) > SIDE_MAX for side in found.groups()):
        raise BadRequest(f"The parameter {name} must be {expected}, given once.")
    return found[0].lower()
