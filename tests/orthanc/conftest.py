"""One real Orthanc, by the configuration that production mounts."""

from support.orthanc import orthanc

__all__ = ["orthanc"]
