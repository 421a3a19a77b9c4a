"""Holding the files in processed against what the archive has of them, on the running system."""
