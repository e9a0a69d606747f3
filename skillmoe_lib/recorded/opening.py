"""Opening recorded files: JSON, JSON lines and zip archives, within limits; every fault is one line.

Nothing is unpacked to disk, so the names inside an archive lead nowhere. An archive that unpacks to far more
than its own size is refused before it is unpacked. Members that zstandard packed (inspect_ai's default) are
read through pyarrow, as the standard library does so only from Python 3.14.
"""

import contextlib
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from skillmoe_lib.errors import SkillmoeError

#: An archive above this size when unpacked (bytes) may be at most so many times the file's own size.
MAX_FREE, MAX_RATIO = 16 * 2**20, 200
#: The largest member that is read, in bytes.
MAX_MEMBER = 2**30
_ZSTANDARD = 93
_ENCRYPTED = 1


def unreadable(path: Path, reason: object) -> SkillmoeError:
    """The error for a file that cannot be read, in one line."""
    return SkillmoeError(f"cannot read {path.name}: {' '.join(str(reason).split())[:200]}")


def read_json(path: Path) -> Any:
    """What a JSON file holds."""
    try:
        return parse(path.read_bytes(), path)
    except OSError as error:
        raise unreadable(path, error.strerror or error) from error


def parse(data: bytes, path: Path, where: str = "") -> Any:
    """JSON of bytes; `where` in the file they stand is said if they are torn or not UTF-8."""
    place = f"{where}: " if where else ""
    if data.startswith(b"version https://git-lfs"):
        raise unreadable(path, "it is a Git LFS pointer, not the data itself: run `git lfs pull`")
    try:
        return json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise unreadable(path, f"{place}it is not UTF-8 text; save it as UTF-8") from error
    except json.JSONDecodeError as error:
        at_end = error.pos >= len(error.doc.rstrip()) and not error.msg.startswith("Extra data")
        torn = "; the file is torn" if at_end or error.msg.startswith("Unterminated string") else ""
        raise unreadable(
            path, f"{place}it is not JSON: {error.msg} at character {error.pos}{torn}"
        ) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; deep nesting
        raise unreadable(path, f"{place}{error}") from error


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file with one on each line, and the number of the line, from 1."""
    try:
        with path.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                if not line.strip():
                    continue
                row = parse(line, path, f"line {number}")
                if not isinstance(row, dict):
                    raise unreadable(path, f"line {number} must be an object, got {str(row)[:40]}")
                yield number, row
    except OSError as error:
        raise unreadable(path, error.strerror or error) from error


def members(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Name and content of the members of a zip archive that are wanted, one in memory at a time.

    Raises
    ------
    SkillmoeError
        If the archive is torn, locked by a password, or unpacks to far more than its own size.
    """
    with _opened(path) as archive:
        for info in archive.infolist():
            if not info.is_dir() and wanted(info.filename):
                yield info.filename, _content(archive, info, path)


def names_in(path: Path) -> list[str]:
    """The names of an archive's members."""
    with _opened(path) as archive:
        return [info.filename for info in archive.infolist() if not info.is_dir()]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
            if unpacked > max(MAX_FREE, MAX_RATIO * path.stat().st_size):
                raise ValueError(
                    f"it unpacks to {unpacked:,} bytes, more than {MAX_RATIO} times its own size"
                )
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise unreadable(path, f"it is torn, or no zip archive: {error}") from error
    except OSError as error:  # pyarrow's of a torn member have no number
        raise unreadable(path, error.strerror or f"it is torn: {error}") from error
    except (ValueError, NotImplementedError) as error:
        raise unreadable(path, error) from error


def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> bytes:
    if info.flag_bits & _ENCRYPTED:
        raise ValueError("it is locked by a password")
    if info.file_size > MAX_MEMBER:
        raise ValueError(f"its member {info.filename[:60]!r} has {info.file_size:,} bytes, more than allowed")
    if info.compress_type != _ZSTANDARD:
        return archive.read(info)
    content = _from_zstandard(path, info)
    if len(content) != info.file_size or zlib.crc32(content) != info.CRC:
        raise ValueError(f"its member {info.filename[:60]!r} does not fit its checksum")
    return content


def _from_zstandard(path: Path, info: zipfile.ZipInfo) -> bytes:
    import pyarrow

    with path.open("rb") as stream:
        stream.seek(info.header_offset)
        header = stream.read(30)
        if len(header) < 30 or not header.startswith(b"PK\x03\x04"):
            raise ValueError(f"its member {info.filename[:60]!r} is not where the archive says")
        n_name, n_extra = struct.unpack("<HH", header[26:30])
        stream.seek(n_name + n_extra, 1)
        packed = stream.read(info.compress_size)
    with pyarrow.CompressedInputStream(pyarrow.BufferReader(packed), "zstd") as unpacked:
        return bytes(unpacked.read(info.file_size + 1))  # one more than it should have, and no further
