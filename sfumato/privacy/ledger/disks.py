"""The file system of a ledger.

Only local ones are known to keep their locks, and what was synced, for everybody who opens them.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
from pathlib import Path

LOCAL = frozenset(
    "ext2 ext3 ext4 xfs btrfs zfs f2fs bcachefs jfs reiserfs nilfs2 ufs "  # Linux and BSD
    "tmpfs ramfs overlay aufs fuse-overlayfs fuse.fuse-overlayfs "  # memory and containers
    "apfs hfs ntfs ntfs3 refs fat fat32 fuseblk vfat msdos exfat".split()
)
UNKNOWN = "unknown"
_REMOTE = 4  # GetDriveTypeW's word for a drive of another machine


def file_system(path: Path) -> str:
    """Returns the name of the file system that holds `path`, in lower case, or "unknown"."""
    place = path.resolve().parent
    if hasattr(ctypes, "windll"):
        return _volume(place)
    holding = ("", UNKNOWN)
    for point, kind in _mounts():
        inside = place == Path(point) or Path(point) in place.parents
        # of two on one point the later one hides the other
        if inside and len(point) >= len(holding[0]):
            holding = (point, kind.lower())
    return holding[1]


def is_local(kind: str) -> bool:
    """Whether the file system of this name is one of a machine's own disks, or of its memory."""
    return kind in LOCAL


def _volume(place: Path) -> str:
    """Returns the file system of the Windows volume that holds `place`, which need not exist yet.

    "network drive" for a share of another machine, whatever its file system.
    """
    windows, root, kind = (
        ctypes.windll.kernel32,
        ctypes.create_unicode_buffer(261),
        ctypes.create_unicode_buffer(261),
    )
    if not windows.GetVolumePathNameW(str(place), root, len(root)):
        return UNKNOWN
    if windows.GetDriveTypeW(root) == _REMOTE:
        return "network drive"
    found = windows.GetVolumeInformationW(root, None, 0, None, None, None, kind, len(kind))
    return kind.value.lower() if found and kind.value else UNKNOWN


def _mounts() -> list[tuple[str, str]]:
    """(mount point, file system) of all mounts, in the order in which they were mounted."""
    try:
        lines = [
            line.split(" ")
            for line in Path("/proc/self/mounts").read_text("utf-8", "surrogateescape").splitlines()
        ]
        # Spaces, tabs, newlines and backslashes in a path are written as octal numbers.
        return [
            (re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), line[1]), line[2])
            for line in lines
            if len(line) > 2
        ]
    except OSError:  # not Linux
        pass
    try:
        found = subprocess.run(
            ["/sbin/mount"], capture_output=True, text=True, timeout=10, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return re.findall(r"^.*? on (/.*) \(([^,)]+)", found, re.MULTILINE)
