"""What the catalog raises.

CatalogError
├── CatalogUnavailableError   cannot be reached, is locked, full, damaged or gone: wait and try again
└── CatalogVersionError       of a newer version, or not migrated: nothing here helps but a person
"""

from __future__ import annotations


class CatalogError(Exception):
    """Base of what the catalog raises."""


class CatalogUnavailableError(CatalogError):
    """The catalog cannot be used now; nothing was changed."""


class CatalogVersionError(CatalogError):
    """The catalog's schema is not this version's."""
