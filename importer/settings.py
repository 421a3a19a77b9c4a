"""The importer's settings."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pacs.settings import ArchiveSettings, DataSettings, Port


class ImporterSettings(DataSettings, ArchiveSettings):
    """What the importer can be told."""

    cooldown_seconds: Annotated[
        float,
        Field(
            ge=0,
            le=86400,
            description="How long a file must stay unchanged before it is imported; "
            "0: until two scans find it unchanged.",
        ),
    ] = 60
    rescan_seconds: Annotated[
        float,
        Field(
            gt=0,
            le=3600,
            description="How often the inbox is looked through from end to end. "
            "More than 15 count as 15: a new clinic is to be served within 30 s.",
        ),
    ] = 10
    upload_workers: Annotated[
        int, Field(ge=1, le=32, description="How many requests to the archive are under way together.")
    ] = 4
    importer_port: Annotated[
        Port, Field(description="Port of the importer's `/metrics`, `/healthz` and `/readyz`.")
    ] = 8080
    importer_host: Annotated[
        str,
        Field(
            description="Address that the importer's port is opened on; 0.0.0.0 in a container.", min_length=1
        ),
    ] = "127.0.0.1"
