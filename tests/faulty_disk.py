"""A disk that fails on purpose, for whole commands: faulty_disk.c under them, and what a power cut leaves of a folder.

`LD_PRELOAD=library()` puts the shim below everything that a process writes; `arm` says what is to happen at which
operation. All operations are recorded with their data, so a power cut is worked out afterwards from those before it:
of each file the bytes that were synced are left, of each folder the names.
"""

from __future__ import annotations

import atexit
import ctypes
import errno
import functools
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

KINDS = (
    "open", "create", "write", "truncate", "sync", "rename", "link", "unlink", "mkdir", "rmdir",
)  # fmt: skip
GROWING = ("create", "write", "truncate", "mkdir", "link")  # what takes room
ACTIONS = {"kill": 1, "torn": 2, "power": 1, "power, names kept": 1}
# Which operations fail in this way, and whether all later ones do, too, until somebody mends it.
ERRORS = {
    "ENOSPC": (GROWING, True),
    "EDQUOT": (GROWING, True),
    "EFBIG": (("write", "truncate"), False),
    "EROFS": (KINDS, True),
    "EIO": (KINDS, False),
}
FAULTS = (*ACTIONS, *ERRORS)
HEAD = struct.Struct("<4iQ2q")


@dataclass(frozen=True)
class Fault:
    """What happens at which operation below `folder`, which is absolute and there. `at` 0: nothing, all is recorded."""

    folder: Path
    kind: str = "kill"
    at: int = 0

    @property
    def recording(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.recording")

    @property
    def dies(self) -> bool:
        return self.kind in ACTIONS


@functools.cache
def library() -> Path | None:
    """The shim, compiled; None where there is no compiler, or no Linux."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not os.path.exists("/proc/self/fd"):
        return None
    folder = tempfile.mkdtemp(prefix="heedful-faults-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    target = Path(folder) / "faulty_disk.so"
    source = Path(__file__).with_suffix(".c")
    subprocess.run(
        [compiler, "-O1", "-Wall", "-shared", "-fPIC", source, "-o", target, "-ldl", "-lpthread"],
        check=True,
        timeout=120,
    )
    return target


def arm(fault: Fault) -> None:
    """In a process that was started with the shim; until it ends."""
    kinds, lasting = ERRORS.get(fault.kind, ((), False))
    done = ctypes.CDLL(None).faults_arm(
        os.fsencode(fault.folder),
        os.fsencode(fault.recording),
        ctypes.c_long(fault.at),
        (ACTIONS.get(fault.kind, 3) if fault.at else 0),
        getattr(errno, fault.kind, 0),
        sum(1 << KINDS.index(kind) for kind in kinds),
        int(lasting),
    )
    assert done == 0


# ── what a power cut leaves ──────────────────────────────────────────────────────────────────────


@dataclass
class File:
    """Bytes: as programs see them, and as they are on the disk."""

    now: bytearray = field(default_factory=bytearray)
    synced: bytes = b""


@dataclass
class Folder:
    """Names, likewise."""

    now: dict[str, Node] = field(default_factory=dict)
    synced: dict[str, Node] = field(default_factory=dict)


Node = File | Folder


class Disk:
    """What is under a folder, all of it synced, and what a recording then did."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.inodes: dict[int, Node] = {}
        self.root = self._read(folder)
        self.operations: list[str] = []

    def _read(self, path: Path) -> Node:
        node: Node
        if path.is_dir():
            names = {p.name: self._read(p) for p in path.iterdir()}
            node = Folder(names, dict(names))
        else:
            data = path.read_bytes()
            node = File(bytearray(data), data)
        self.inodes[path.stat().st_ino] = node
        return node

    def play(self, recording: Path) -> None:
        """Do what was recorded."""
        for kind, a, b, inode, offset, data in records(recording):
            self.operations.append(f"{kind} {os.path.relpath(a, self.folder) if a else 'a file'}")
            if kind == "create":
                node = self.inodes[inode] = File()
                self._put(a, node) if a else None
            elif kind == "mkdir":
                node = self.inodes[inode] = Folder()
                self._put(a, node)
            elif kind == "write":
                file = self._file(inode)
                file.now.extend(bytes(max(0, offset - len(file.now))))
                file.now[offset : offset + len(data)] = data
            elif kind == "truncate":
                file = self._file(inode)
                file.now.extend(bytes(max(0, offset - len(file.now))))
                del file.now[offset:]
            elif kind == "sync":
                node = self.inodes[inode]
                if isinstance(node, File):
                    node.synced = bytes(node.now)
                else:
                    node.synced = dict(node.now)
            elif kind == "rename":
                self._put(b, self._take(a))
            elif kind == "link":
                self._put(a, self.inodes[inode])
            elif kind in ("unlink", "rmdir"):
                self._take(a)

    def lose_power(self, *, names_kept: bool = False) -> None:
        """Leave in the folder what was synced; with `names_kept`, as of a file system that loses bytes alone."""
        self._write(lambda n: n.now if names_kept else n.synced, lambda f: f.synced)

    def tree(self) -> dict[str, bytes | None]:
        """Everything as programs saw it at the end of the recording: the bytes of files, None of folders."""
        return dict(_walk(self.root, ""))

    def _write(self, names, content) -> None:
        shutil.rmtree(self.folder)

        def write(node: Node, path: Path) -> None:
            if isinstance(node, File):
                path.write_bytes(content(node))
                return
            path.mkdir()
            for name, inner in names(node).items():
                write(inner, path / name)

        write(self.root, self.folder)

    def _file(self, inode: int) -> File:
        node = self.inodes[inode]
        assert isinstance(node, File)
        return node

    def _holder(self, path: str) -> tuple[Folder, str]:
        *above, name = os.path.relpath(path, self.folder).split("/")
        node = self.root
        for part in above:
            assert isinstance(node, Folder)
            node = node.now[part]
        assert isinstance(node, Folder)
        return node, name

    def _put(self, path: str, node: Node) -> None:
        holder, name = self._holder(path)
        holder.now[name] = node

    def _take(self, path: str) -> Node:
        holder, name = self._holder(path)
        return holder.now.pop(name)


def _walk(node: Node, path: str) -> Iterator[tuple[str, bytes | None]]:
    if isinstance(node, File):
        yield path, bytes(node.now)
        return
    yield path, None
    for name, inner in node.now.items():
        yield from _walk(inner, f"{path}/{name}")


def tree(folder: Path) -> dict[str, bytes | None]:
    """What is there, as `Disk.tree` says it."""
    return dict(_walk(Disk(folder).root, ""))


def records(recording: Path) -> Iterator[tuple[str, str, str, int, int, bytes]]:
    """What was done: kind, path, second path, inode, offset or size, data."""
    raw, at = recording.read_bytes(), 0
    while at + HEAD.size <= len(raw):
        number, a, b, _, inode, offset, size = HEAD.unpack_from(raw, at)
        kind, at = KINDS[number], at + HEAD.size
        first, second = raw[at : at + a], raw[at + a : at + a + b]
        at += a + b
        data = raw[at : at + size] if kind == "write" else b""
        at += len(data)
        yield kind, os.fsdecode(first), os.fsdecode(second), inode, offset, data
