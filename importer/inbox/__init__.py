"""Seeing files: what lies in the inbox, whose turn of an importer it is, and when a file is stable."""
