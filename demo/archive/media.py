"""Media types with their parameters.

Werkzeug's parser drops a parameter with a slash outside of quotes, as in ``type=application/dicom``. That is
no token by RFC 9110, but it is what viewers send.
"""

from __future__ import annotations

from email.message import Message


def parse_media_type(text: str) -> tuple[str, dict[str, str]]:
    """A media type or range in lower case, and its parameters; quotes taken off."""
    message = Message()
    message["Content-Type"] = text.replace("\r", " ").replace("\n", " ")
    (media_type, _), *parameters = message.get_params(failobj=[("", "")])
    return media_type.strip().lower(), {name.lower(): value for name, value in parameters}
