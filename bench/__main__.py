"""`make bench`: how fast files are imported and the study list answers, on this machine.

Figures are for people, and for ratios within one run: client and servers share this machine's cores.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from bench import import_files, study_list


def main() -> None:
    """Run what was asked for and print one line for each figure."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", choices=["import", "list"], help="one part")
    parser.add_argument("--files", type=int, default=1000, help="CT files of 0.5 MB to import")
    parser.add_argument("--studies", type=int, default=10_000, help="studies in the list")
    options = parser.parse_args()
    if options.only in {None, "import"}:
        import_files.run(options.files)
    if options.only in {None, "list"}:
        study_list.run(options.studies)


if __name__ == "__main__":
    main()
