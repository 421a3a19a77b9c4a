"""The catalog: clinics, who owns a study, the worklist, imports, audit (SQLite or PostgreSQL).

`Catalog` gives transactions; the functions of the modules beside this take the open connection, so
that a caller decides what is done together.
"""

from pacs.catalog.engine import Catalog, CatalogError, CatalogUnavailableError, CatalogVersionError

__all__ = ["Catalog", "CatalogError", "CatalogUnavailableError", "CatalogVersionError"]
