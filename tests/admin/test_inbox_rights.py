"""A clinic's inbox is its group's: what other users of the host drop there can be imported.

The last part needs root, to be several users. The importer then runs as the owner of the inbox without any
capability, as in its container; who drops files is somebody else of the same group.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from admin import clinics, inbox_rights
from support.corpus import instance_bytes
from support.importer_process import ROOT, Process, environment
from support.importing import NORTH, World, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pacs.catalog import Catalog
    from support.site import Site

ACL = "system.posix_acl_default"
GROUP, UPLOADER, STRANGER = 20001, 20020, 20030
LEFT = "setpriv --bounding-set=-all --inh-caps=-all --securebits=+noroot --clear-groups"


def acls_work(folder: Path) -> bool:
    try:
        os.setxattr(folder, ACL, inbox_rights.default_acl(os.getgid()))
    except (AttributeError, OSError):
        return False
    os.removexattr(folder, ACL)
    return True


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    if not acls_work(tmp_path):
        pytest.skip("the file system of the temporary folder has no ACLs")
    return tmp_path / "inbox"


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_made_under_a_careful_umask_is_the_groups_too(inbox: Path) -> None:
    made = clinics.make_inbox(inbox, NORTH)
    assert (made.folder, made.made, made.notes) == (inbox / NORTH, True, ())
    assert mode_of(made.folder) == 0o2770
    script = "umask 022; mkdir -p study/series; touch study/series/image"
    subprocess.run(["sh", "-c", script], cwd=made.folder, check=True, timeout=10)
    assert mode_of(made.folder / "study") == mode_of(made.folder / "study/series") == 0o2770
    assert mode_of(made.folder / "study/series/image") == 0o660


@pytest.mark.skipif(shutil.which("getfacl") is None, reason="getfacl is not installed")
def test_the_acl_reads_as_meant(inbox: Path) -> None:
    folder = clinics.make_inbox(inbox, NORTH).folder
    told = subprocess.run(
        ["getfacl", "-cnpd", folder], check=True, capture_output=True, text=True, timeout=10
    ).stdout.split()
    gid = os.getgid()
    assert told == ["user::rwx", "group::rwx", f"group:{gid}:rwx", "mask::rwx", "other::---"]


def test_lost_rights_come_back(inbox: Path) -> None:
    folder = clinics.make_inbox(inbox, NORTH).folder
    folder.chmod(0o700)
    os.removexattr(folder, ACL)
    again = clinics.make_inbox(inbox, NORTH)
    assert (again.made, again.notes) == (False, ())
    assert mode_of(folder) == 0o2770
    assert os.getxattr(folder, ACL) == inbox_rights.default_acl(os.getgid())


def test_a_folder_that_is_right_is_not_touched(inbox: Path) -> None:
    folder = clinics.make_inbox(inbox, NORTH).folder
    before = folder.stat().st_ctime_ns
    clinics.make_inbox(inbox, NORTH)
    assert folder.stat().st_ctime_ns == before


def test_without_acls_it_is_made_and_said(sqlite_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr("os.setxattr", refused)
    told = sqlite_site.done("add-clinic", "northside", "Northside")
    assert "northside: inbox: its file system has no default ACLs" in told
    assert mode_of(sqlite_site.inbox / "northside") == 0o2770
    # As on macOS, whose Python has no such function at all.
    monkeypatch.delattr("os.setxattr")
    assert "no default ACLs" in sqlite_site.done("add-clinic", "southside", "Southside")


def test_a_share_that_refuses_chmod_is_no_failure(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_self: Path, _mode: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("pathlib.Path.chmod", refused)
    made = clinics.make_inbox(inbox, NORTH)
    assert made.folder.is_dir()
    assert "does not take group and mode (Operation not permitted)" in made.notes[0]


# Several users of one host


@pytest.fixture
def host(sqlite_catalog: Catalog, tmp_path: Path) -> Iterator[World]:
    """A platform of root's whose group has other users; every user can reach its inbox."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv, to be several users")
    data = Path(tempfile.mkdtemp(prefix="clinicpacs-host-"))
    if not acls_work(data):
        data.rmdir()
        pytest.skip("the file system of the temporary folder has no ACLs")
    data.chmod(0o755)
    os.chown(data, 0, GROUP)
    made = World(data / "data", sqlite_catalog, f"sqlite:///{tmp_path}/only-catalog.db")
    made.server.start()
    yield made
    made.server.stop()
    shutil.rmtree(data)


def without_capabilities(*command: str) -> list[str]:
    return [*LEFT.split(), f"--regid={GROUP}", *command]


def add_clinic(world: World) -> str:
    command = without_capabilities(sys.executable, "-m", "admin", "add-clinic", NORTH, "Northside")
    env = environment(world)
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def drop(world: World, script: str, user: int = UPLOADER) -> None:
    """Do something in the inbox, as another user of the host with umask 022; $SOURCE has files."""
    source = world.data.parent / "source"
    if not source.exists():
        for name in ("1.dcm", "series/2.dcm", "3.dcm", "4.dcm", "late/5.dcm", "own/6.dcm"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(instance_bytes(seed=name, size=4))
    subprocess.run(
        ["bash", "-ec", f"umask 022; {script}"],
        cwd=world.inbox / NORTH,
        env={"PATH": os.environ["PATH"], "SOURCE": str(source)},
        user=user,
        group=user,
        extra_groups=[GROUP],
        check=True,
        timeout=20,
    )


@contextmanager
def importing(world: World) -> Iterator[Process]:
    log = world.database_url.removeprefix("sqlite:///")
    path = Path(log).with_name("importer-of-another-user.log")
    with path.open("wb") as file:
        popen = subprocess.Popen(
            without_capabilities(sys.executable, "-m", "importer"),
            env=environment(world),
            cwd=path.parent,
            stdout=file,
            stderr=file,
        )
    process = Process(popen, path)
    try:
        yield process
    finally:
        process.kill()


def filed(world: World) -> list[str]:
    return sorted(path.name for path in world.processed.rglob("*.dcm"))


def told(importer: Process, metric: str) -> list[str]:
    """What a metric says where it is not 0."""
    lines = importer.get("/metrics").text.splitlines()
    each = (line.removeprefix(metric) for line in lines if line.startswith(metric))
    return [line for line in each if not line.endswith(" 0.0")]


def waiting(world: World) -> list[str]:
    # os.walk: Path.rglob raises an error when the importer removes an emptied folder just then.
    below = os.walk(world.inbox / NORTH)
    return sorted(str(Path(folder, name)) for folder, _, names in below for name in names)


def test_another_users_folders_are_imported_and_removed(host: World) -> None:
    assert "inbox:" not in add_clinic(host)
    drop(host, "mkdir -p n1/series; cp $SOURCE/1.dcm n1; cp -p $SOURCE/series/2.dcm n1/series")
    drop(host, "umask 077; mkdir n2; cat $SOURCE/3.dcm > n2/3.dcm")
    drop(host, "mkdir -m 775 n3; cp $SOURCE/4.dcm n3/.part; mv n3/.part n3/4.dcm")
    drop(host, "cp -r $SOURCE/late n4; chmod -R g+w n4")
    # Under the importer's own number every folder is its own, however it was made.
    drop(host, "cp -rp $SOURCE/own n5", user=0)
    with importing(host) as importer:
        wait_until(lambda: len(filed(host)) == 6, what=importer.output)
        wait_until(lambda: not list((host.inbox / NORTH).glob("n*")), what=importer.output)


def test_what_cannot_be_taken_waits_in_sight(host: World) -> None:
    add_clinic(host)
    drop(host, "cp -r $SOURCE/late n1; cp -rp $SOURCE/series n2; cp $SOURCE/1.dcm fine.dcm")
    drop(host, "mkdir n3; install -m 600 $SOURCE/3.dcm n3; mkdir -m 700 n4; cp $SOURCE/4.dcm n4")
    expected = [
        f'{{clinic="{NORTH}",reason="source-not-writable"}} 2.0',
        f'{{clinic="{NORTH}",reason="unreadable"}} 1.0',
    ]
    with importing(host) as importer:
        wait_until(lambda: sorted(told(importer, "importer_blocked_files")) == expected, what=importer.output)
        assert told(importer, "importer_unreadable_folders") == [f'{{clinic="{NORTH}"}} 1.0']
        wait_until(lambda: filed(host) == ["fine.dcm"], what=importer.output)
        assert len(waiting(host)) == 4
        assert not list(host.failed.rglob("*.dcm"))
        # What the administrator is told to do, as their owner or as root.
        drop(host, "chmod -R g+rwX n*")
        wait_until(lambda: waiting(host) == [], seconds=40, what=importer.output)


def test_a_stranger_sees_nothing(host: World) -> None:
    add_clinic(host)
    drop(host, "mkdir new; cp $SOURCE/1.dcm new")
    for path in ("", "/new", "/new/1.dcm"):
        done = subprocess.run(
            ["test", "-r", f"{host.inbox / NORTH}{path}"],
            user=STRANGER,
            group=STRANGER,
            extra_groups=[],
            check=False,
            timeout=10,
        )
        assert done.returncode == 1, path


def test_somebody_elses_folder_is_left_alone_and_said(host: World) -> None:
    folder = host.inbox / NORTH
    folder.mkdir(parents=True)
    os.chown(host.inbox, 0, GROUP)
    folder.chmod(0o755)
    os.chown(folder, UPLOADER, UPLOADER)
    told = add_clinic(host)
    assert f"northside: inbox: it belongs to the user {UPLOADER}" in told
    assert f"chown 0:{GROUP} {folder}" in told
    assert mode_of(folder) == 0o755
    # As it says.
    os.chown(folder, 0, GROUP)
    assert "inbox: it belongs" not in add_clinic(host)
    assert mode_of(folder) == 0o2770


def test_a_folder_of_another_group_becomes_ours(host: World) -> None:
    host.inbox.mkdir(parents=True)
    os.chown(host.inbox, 0, STRANGER)
    host.inbox.chmod(0o2775)
    os.chown(host.data, 0, GROUP)
    assert "inbox:" not in add_clinic(host)
    assert (host.inbox / NORTH).stat().st_gid == GROUP
