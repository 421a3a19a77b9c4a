"""What the services and the commands build on: settings, logs, the catalog and the client of the archive."""

__version__ = "0.1.0"

MODIFYING_SYSTEM = "clinicpacs"
"""Our name in OriginalAttributesSequence: only instances that bear it give a lost owner back."""
