"""Who opened which study, who searched for what, who was refused; in the catalog's audit trail."""
