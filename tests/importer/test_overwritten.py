"""A file that is written to while it is open here: what is stored is one instance or the other."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from support.corpus import instance_bytes
from support.importing import SOUTH, wait_until

if TYPE_CHECKING:
    from support.importing import World
    from support.stow_server import Sent


def is_open_here(path: Path) -> bool:
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            links.append(descriptor.readlink())
    return path in links


def test_header_and_pixels_of_two_images_are_never_stored_as_one(world: World) -> None:
    """The header was read, the request waits, and the clinic writes over the file in place."""
    before = instance_bytes(seed="b", size=256)
    after = before.replace(b"Sample^Aurora", b"Sample^Boreal")[:-1000] + bytes(1000)
    assert len(after) == len(before)
    held, go_on = threading.Event(), threading.Event()

    def hold_the_first(sent: Sent) -> None:
        if sent.number == 0:
            held.set()
            go_on.wait(20)

    world.server.rule = hold_the_first
    world.know(before, SOUTH)
    world.drop("a.dcm")
    place = world.inbox / SOUTH / "b.dcm"
    with world.running(upload_workers=1):
        wait_until(held.is_set)
        world.drop("b.dcm", before, clinic=SOUTH)
        wait_until(lambda: is_open_here(place))
        with place.open("r+b") as file:
            file.write(after)
        go_on.set()
        wait_until(lambda: world.done(SOUTH) == {"b.dcm": after})
    (stored,) = [each for each in world.server.stored.values() if each.header.InstitutionName == SOUTH]
    assert stored.header.PatientName == "Sample^Boreal"
    assert stored.content.endswith(after[-1500:])
    assert world.server.times_stored[stored.header.SOPInstanceUID] == 1
