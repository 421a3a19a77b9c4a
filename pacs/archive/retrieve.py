"""One instance out of the answer to a WADO-RS request, while it comes (PS3.18 section 10.4).

Some archives answer with the file itself, others, Orthanc among them, know multipart answers only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pacs.archive.multipart import BrokenOffError, MultipartError, boundary_of, only_part
from pacs.archive.protocol import ArchiveUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCEPT = (
    'multipart/related; type="application/dicom"; transfer-syntax=*, application/dicom; transfer-syntax=*'
)
"""As it was stored: without a transfer syntax named, Orthanc decompresses."""

CHUNK = 1 << 18


def instance_in(content_type: str, body: Iterator[bytes]) -> Iterator[bytes]:
    """The instance of an answer, in chunks.

    Raises:
        ArchiveUnavailableError: ``not-dicom``: the answer is something else; ``interrupted``: it ends early.
    """
    if content_type.partition(";")[0].strip().lower() == "application/dicom":
        yield from body
        return
    try:
        yield from only_part(body, boundary_of(content_type))
    except BrokenOffError:
        raise ArchiveUnavailableError("interrupted") from None
    except MultipartError:
        raise ArchiveUnavailableError("not-dicom") from None
