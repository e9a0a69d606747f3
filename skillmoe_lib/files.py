"""Writing a file whole or not at all; the project writes all its files this way."""

import contextlib
import os
import uuid
from pathlib import Path

from skillmoe_lib.errors import SkillmoeError


def replace_file(path: Path, content: bytes | str) -> None:
    """Write under a temporary name, sync, and rename into place; text as UTF-8.

    Raises
    ------
    SkillmoeError
        If it cannot be written (a full disk, a folder without permission). What was there before is
        unchanged, and no half-written file is left.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as sink:
            sink.write(data)
            sink.flush()
            os.fsync(sink.fileno())
        temporary.replace(path)
    except OSError as error:
        raise SkillmoeError(
            f"cannot write {path}: {error.strerror or error}; what was stored is intact"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # the error above already gives the reason
            temporary.unlink()
