"""The `clinicpacs` command: setup, clinics, users, status."""
