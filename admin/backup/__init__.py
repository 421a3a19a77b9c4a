"""Backups of the production stack: what the scripts backup.sh and restore.sh have done in a container.

The scripts stop and start services and move dumps about; everything that is decided is decided here.
"""
