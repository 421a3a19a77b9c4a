"""From a stable file to a batch: opened, its study and series reserved, clinics taking turns."""
