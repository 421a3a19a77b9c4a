"""What all services share, and nothing that only one of them needs."""

__version__ = "0.1.0"

MODIFYING_SYSTEM = "clinicpacs"
"""Our name in OriginalAttributesSequence: only instances that bear it give a lost owner back."""
