"""Who opened which study, and who was refused one; in the catalog's audit trail."""
