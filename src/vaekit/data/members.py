"""Image files of a folder, a zip or a tar as one list: names, and bytes by position. Nothing is extracted."""

from __future__ import annotations

import os
import re
import struct
import tarfile
import tempfile
import threading
import weakref
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Protocol

from vaekit.data.cache import fingerprint
from vaekit.errors import VaekitError

EXTENSIONS = frozenset(
    [
        ".png",
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".pgm",
        ".ppm",
        ".pnm",
        ".pbm",
        ".bmp",
        ".dib",
        ".tif",
        ".tiff",
        ".webp",
        ".gif",
    ]
)
_DIGITS = re.compile(r"(\d+)")
MAX_MEMBER = 512 << 20  # a single image file larger than this is a bomb or a mistake
MAX_GROWTH = 100  # how many times its own size an archive may expand to, beyond a gibibyte


class Members(Protocol):
    """`names` relative, in natural order; `read(i)` the bytes of the i-th, callable from several threads."""

    names: list[str]
    others: Counter[str]
    mean_bytes: float

    def read(self, i: int) -> bytes: ...


def natural(name: str) -> list[tuple[int, int, str]]:
    """A sort key by which s2 comes before s10."""
    return [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in _DIGITS.split(name) if p]


def is_image(name: str) -> bool:
    """Whether the name is an image file's; hidden files and what macOS adds to archives are not."""
    if os.path.splitext(name)[1].lower() not in EXTENSIONS:
        return False
    name = name.removeprefix("./")
    return not (name.startswith((".", "__MACOSX/")) or "/." in name)


def stamp(path: Path) -> str:
    """What there is now: sizes and times of change of an archive, or of a folder's image files by name."""
    if path.is_dir():
        return fingerprint(sorted((n, s.st_size, s.st_mtime_ns) for n, s in _walk(path) if is_image(n)))
    state = path.stat()
    return fingerprint(state.st_size, state.st_mtime_ns)


def members(path: Path) -> Members:
    """Open a folder, zip, tar or a single image."""
    if path.is_dir():
        return FolderMembers(path, [(n, s.st_size) for n, s in _walk(path)])
    if is_image(path.name):
        return FolderMembers(path.parent, [(path.name, path.stat().st_size)])
    return ZipMembers(path) if zipfile.is_zipfile(path) else TarMembers(path)


def _walk(root: Path) -> Iterable[tuple[str, os.stat_result]]:
    pending = [(root, "")]
    while pending:
        where, prefix = pending.pop()
        try:
            with os.scandir(where) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append((Path(entry.path), f"{prefix}{entry.name}/"))
                    elif entry.is_file():
                        yield prefix + entry.name, entry.stat()
        except OSError as error:
            raise VaekitError(f"cannot read the folder {where}: {error.strerror}") from error


def _chosen(found: Iterable[tuple[str, int]], what: str) -> tuple[list[int], Counter[str]]:
    """Positions of the image files in natural order of their names, and a count of the other extensions."""
    kept: list[tuple[list[tuple[int, int, str]], int]] = []
    others: Counter[str] = Counter()
    for position, (name, size) in enumerate(found):
        if is_image(name):
            if size > MAX_MEMBER:
                raise VaekitError(
                    f"{what}: {name} has {size >> 20} MiB; images over {MAX_MEMBER >> 20} are refused"
                )
            kept.append((natural(name), position))
        elif not name.endswith("/"):
            others[os.path.splitext(name)[1].lower() or "files without extension"] += 1
    return [position for _, position in sorted(kept)], others


class FolderMembers:
    """Image files under a folder."""

    def __init__(self, root: Path, found: list[tuple[str, int]]) -> None:
        order, self.others = _chosen(found, root.name)
        self.names = [found[i][0] for i in order]
        self.mean_bytes = sum(found[i][1] for i in order) / max(1, len(order))
        self._root = str(root)

    def read(self, i: int) -> bytes:
        with open(os.path.join(self._root, self.names[i]), "rb", buffering=0) as file:
            return file.read()


class Offsets:
    """Bytes at an offset of an open file, from any thread. The file is closed when nobody holds this any more."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._lock = file, threading.Lock()
        weakref.finalize(self, file.close)

    def at(self, offset: int, size: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._file.fileno(), size, offset)
        with self._lock:
            self._file.seek(offset)
            return self._file.read(size)

    def into(self, offset: int, buffer: memoryview) -> int:
        """Fill the buffer with the bytes at an offset; how many there were."""
        if hasattr(os, "preadv"):
            return os.preadv(self._file.fileno(), [buffer], offset)
        with self._lock:
            self._file.seek(offset)
            return self._file.readinto(buffer)  # type: ignore[attr-defined]


class ZipMembers:
    """Image members of a zip, read by offset: a seventh of what zipfile's own file objects cost."""

    def __init__(self, path: Path) -> None:
        self._path, self._archive = path, _opened(path)
        found = self._archive.infolist()
        order, self.others = _chosen(((i.filename, i.file_size) for i in found), path.name)
        self._infos = [found[i] for i in order]
        self.names = [i.filename for i in self._infos]
        total = sum(i.file_size for i in self._infos)
        _refuse_bomb(total, path)
        self.mean_bytes = total / max(1, len(order))
        self._bytes = Offsets(open(path, "rb"))  # noqa: SIM115 - read from for as long as the object lives
        if any(i.flag_bits & 1 for i in self._infos):
            raise VaekitError(f"{path.name} is encrypted; give it without a password")

    def read(self, i: int) -> bytes:
        info = self._infos[i]
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            return self._archive.read(info)
        # Name and extra field of the local header are those of the directory, or nearly so in length.
        guess = 30 + len(info.filename.encode()) + len(info.extra) + 64
        raw = self._bytes.at(info.header_offset, guess + info.compress_size)
        if raw[:4] != b"PK\x03\x04":
            raise ValueError("no member at the offset that the zip's directory names")
        start = 30 + sum(struct.unpack_from("<HH", raw, 26))
        if start + info.compress_size > len(raw):
            raw, start = self._bytes.at(info.header_offset + start, info.compress_size), 0
        data = raw[start : start + info.compress_size]
        if info.compress_type == zipfile.ZIP_DEFLATED:
            # No more than the directory's size is ever inflated.
            data = zlib.decompressobj(-15).decompress(data, info.file_size + 1)
        if len(data) != info.file_size or zlib.crc32(data) != info.CRC:
            raise ValueError("the zip member is damaged")
        return data


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise VaekitError(f"{path.name} is not a readable zip: {error}") from error


def _refuse_bomb(total: int, path: Path) -> None:
    if total > (1 << 30) + MAX_GROWTH * path.stat().st_size:
        raise VaekitError(
            f"{path.name} expands to {total >> 20} MiB, over {MAX_GROWTH} times its size: refused"
        )


class TarMembers:
    """Image members of a tar, read by offset; of a compressed one, from an unnamed copy of its images."""

    def __init__(self, path: Path) -> None:
        found: list[tuple[str, int, int]] = []
        try:
            try:
                with tarfile.open(path, "r:") as archive:
                    found = [(m.name, m.size, m.offset_data) for m in archive if m.isreg()]
                file: IO[bytes] = open(path, "rb")  # noqa: SIM115
            except tarfile.ReadError:
                file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the object
                self._unpack(path, file, found)
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            raise VaekitError(f"{path.name} is not a readable archive: {error}") from error
        order, self.others = _chosen(((name, size) for name, size, _ in found), path.name)
        self._places = [found[i][1:] for i in order]
        self.names = [found[i][0].removeprefix("./") for i in order]
        self.mean_bytes = sum(size for size, _ in self._places) / max(1, len(order))
        self._bytes = Offsets(file)

    @staticmethod
    def _unpack(path: Path, file: IO[bytes], found: list[tuple[str, int, int]]) -> None:
        total = 0
        with tarfile.open(
            path, "r|*"
        ) as archive:  # one pass: a compressed tar has no other way to its members
            for member in archive:
                total += member.size
                _refuse_bomb(total, path)
                if not member.isreg():
                    continue
                found.append((member.name, member.size, file.tell()))
                if is_image(member.name) and (source := archive.extractfile(member)) is not None:
                    while piece := source.read(1 << 20):
                        file.write(piece)
        file.flush()

    def read(self, i: int) -> bytes:
        size, offset = self._places[i]
        data = self._bytes.at(offset, size)
        if len(data) != size:
            raise ValueError("the tar ends inside this member")
        return data
