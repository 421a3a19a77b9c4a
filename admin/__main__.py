"""`python -m admin` is the `clinicpacs` command."""

from admin.cli import main

main()
