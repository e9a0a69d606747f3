"""Zip archives for tests: as the standard library writes them, and with members that zstandard packed."""

import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import pyarrow


def zipped(path: Path, members: Mapping[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def zipped_by_zstandard(path: Path, members: Mapping[str, str | bytes]) -> Path:
    """Method 93 of the zip format, which the standard library writes only from Python 3.14."""
    body, directory = b"", b""
    for name, content in members.items():
        data = content.encode() if isinstance(content, str) else content
        sink = pyarrow.BufferOutputStream()
        with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
            stream.write(data)
        packed = sink.getvalue().to_pybytes()
        file = name.encode()
        sizes = struct.pack("<III", zlib.crc32(data), len(packed), len(data))
        head = struct.pack("<HHHHH", 63, 0, 93, 0, 0x21) + sizes + struct.pack("<HH", len(file), 0)
        directory += b"PK\x01\x02" + struct.pack("<H", 63) + head
        directory += struct.pack("<HHHII", 0, 0, 0, 0, len(body)) + file
        body += b"PK\x03\x04" + head + file + packed
    count = len(members)
    end = struct.pack("<HHHHIIH", 0, 0, count, count, len(directory), len(body), 0)
    path.write_bytes(body + directory + b"PK\x05\x06" + end)
    return path
