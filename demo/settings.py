"""Settings of `make demo`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pacs.settings import DataSettings, Port


class DemoSettings(DataSettings):
    """What may be changed about the demo; everything else it chooses itself."""

    demo_port: Annotated[Port, Field(description="The demo's port on 127.0.0.1; 0 takes a free one.")] = 8800
    demo_archive: Annotated[
        Literal["embedded", "orthanc"],
        Field(description="Which archive the demo starts (`make demo ARCHIVE=`)."),
    ] = "embedded"
    cooldown_seconds: Annotated[
        float, Field(ge=0, description="How long a file must not change before it is imported.")
    ] = 5
