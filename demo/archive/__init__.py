"""The demo's archive: a thin DICOMweb server over plain files and a small SQLite index.

Files are kept byte for byte as they were received. The index can always be rebuilt from them.
Nothing here is meant for production, where Orthanc takes this place.
"""

from __future__ import annotations

from demo.archive.app import create_archive

__all__ = ["create_archive"]
