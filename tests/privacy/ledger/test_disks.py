"""On what file systems a ledger is kept: known local ones, or, by the owner's recorded leave,
another.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sfumato.privacy.ledger import disks
from sfumato.privacy.ledger.faults import LedgerError
from sfumato.privacy.ledger.ledger import Ledger
from sfumato.privacy.ledger.runs import RunLedger

REMOTE = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "ceph",
    "lustre",
    "gpfs",
    "afs",
    "virtiofs",
    "fuse.sshfs",
    "fuse.rclone",
    "fuse.glusterfs",
    "fuse",
    "webdav",
    "afpfs",
    "somethingfs",
    "unknown",
]
LOCAL = [
    "ext4",
    "xfs",
    "btrfs",
    "zfs",
    "tmpfs",
    "overlay",
    "fuse.fuse-overlayfs",
    "apfs",
    "ntfs3",
    "fuseblk",
    "vfat",
    "exfat",
]


@pytest.fixture
def lies_on(monkeypatch):
    def put(kind):
        monkeypatch.setattr(disks, "_mounts", lambda: [("/", kind)])

    return put


@pytest.mark.parametrize("kind", REMOTE)
def test_what_is_not_known_to_be_local_is_refused_and_nothing_is_made(tmp_path, lies_on, kind):
    lies_on(kind)
    with pytest.raises(LedgerError, match=f"lies on {kind}, .*--allow-file-system"):
        Ledger(tmp_path / "book" / "ledger.sqlite")
    assert not (tmp_path / "book").exists()


@pytest.mark.parametrize("kind", LOCAL)
def test_local_disks_memory_and_container_overlays_are_taken(tmp_path, lies_on, kind):
    lies_on(kind)
    assert Ledger(tmp_path / "ledger.sqlite", allow_file_system=True).file_systems == []


def test_leave_is_a_row_and_holds_for_that_file_system_alone(tmp_path, lies_on):
    lies_on("nfs4")
    book = Ledger(tmp_path / "ledger.sqlite", allow_file_system=True)
    assert [row.kind for row in book.rows] == ["NOTE", "DISK"] and book.file_systems == ["nfs4"]
    book.close()
    again = Ledger(tmp_path / "ledger.sqlite")
    assert len(again.rows) == 2 and again.file_systems == ["nfs4"]
    with pytest.raises(ValueError, match="by hand"):
        RunLedger(again, "x").append("DISK", {"file_system": "cifs"})
    again.close()
    lies_on("cifs")
    with pytest.raises(LedgerError, match="lies on cifs"):
        Ledger(tmp_path / "ledger.sqlite")
    lies_on("ext4")
    assert Ledger(tmp_path / "ledger.sqlite").file_systems == ["nfs4"], "it stays on the record"


def test_a_ledger_that_moved_to_a_network_disk_is_refused(tmp_path, lies_on):
    lies_on("ext4")
    Ledger(tmp_path / "ledger.sqlite").close()
    lies_on("nfs")
    with pytest.raises(LedgerError, match="lies on nfs"):
        Ledger(tmp_path / "ledger.sqlite")


def mounts(monkeypatch, tmp_path, text: str):
    (tmp_path / "mounts").write_text(text)
    real = disks.Path
    monkeypatch.setattr(
        disks, "Path", lambda p: real(tmp_path / "mounts" if p == "/proc/self/mounts" else p)
    )


def test_the_deepest_and_last_mount_counts(monkeypatch, tmp_path):
    """A space in a mount point, one mount over another, a name that only begins alike, a link into
    another disk.
    """
    top = tmp_path / "my disk"
    (top / "far").mkdir(parents=True)
    (tmp_path / "my").mkdir()
    (tmp_path / "link.sqlite").symlink_to(top / "far" / "ledger.sqlite")
    escaped = str(top).replace(" ", "\\040")
    mounts(
        monkeypatch,
        tmp_path,
        f"/dev/a / ext4 rw 0 0\nx {tmp_path}/my cifs rw 0 0\ns:/ {escaped} xfs rw 0 0\n"
        f"s:/ {escaped}/far xfs rw 0 0\ns:/ {escaped}/far nfs4 rw 0 0\n",
    )
    found = {
        name: disks.file_system(path)
        for name, path in {
            "top": tmp_path / "l",
            "my": tmp_path / "my" / "l",
            "disk": top / "l",
            "far": top / "far" / "l",
            "new": top / "far" / "new" / "l",
            "link": tmp_path / "link.sqlite",
        }.items()
    }
    assert found == {
        "top": "ext4",
        "my": "cifs",
        "disk": "xfs",
        "far": "nfs4",
        "new": "nfs4",
        "link": "nfs4",
    }


def test_where_the_kernel_tells_nothing_mount_is_asked(monkeypatch, tmp_path):
    real = disks.Path
    monkeypatch.setattr(
        disks, "Path", lambda p: real(tmp_path / "none" if p == "/proc/self/mounts" else p)
    )
    said = (
        "/dev/disk3s1 on / (apfs, local, journaled)\n//me@server/share on /Volumes/my share (smbfs,"
        " nodev, nosuid)\n"
    )
    monkeypatch.setattr(
        subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, said, "")
    )
    assert (
        disks.file_system(Path("/x")) == "apfs"
        and disks.file_system(Path("/Volumes/my share/l")) == "smbfs"
    )

    def missing(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "run", missing)
    assert disks.file_system(Path("/x")) == "unknown" and not disks.is_local("unknown")


class Windows:
    """kernel32 with one volume of a kind, on a drive of a kind."""

    def __init__(self, kind: str, drive: int = 3, known: bool = True):
        self.kernel32, self.kind, self.drive, self.known = self, kind, drive, known

    def GetVolumePathNameW(self, path, root, size):
        root.value = "C:\\"
        return int(self.known)

    def GetDriveTypeW(self, root):
        return self.drive

    def GetVolumeInformationW(self, root, *rest):
        rest[-2].value = self.kind
        return int(bool(self.kind))


@pytest.mark.parametrize(
    "volume, kind, local",
    [
        (Windows("NTFS"), "ntfs", True),
        (Windows("ReFS"), "refs", True),
        (Windows("exFAT"), "exfat", True),
        (Windows("NTFS", drive=4), "network drive", False),
        (Windows(""), "unknown", False),
        (Windows("NTFS", known=False), "unknown", False),
    ],
)
def test_a_windows_volume_says_what_it_is(monkeypatch, tmp_path, volume, kind, local):
    monkeypatch.setattr(disks.ctypes, "windll", volume, raising=False)
    assert disks.file_system(tmp_path / "ledger.sqlite") == kind
    assert disks.is_local(kind) is local
