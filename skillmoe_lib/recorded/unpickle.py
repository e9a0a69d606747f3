"""A pickled pandas table (RouterBench's form) -> Arrow on standard output; run as a process of its own.

A pickle can call any function it names. This one may name only what a pickled table of numbers and texts is
made of, each by its full name, and anything else is refused before it is looked up: `pandas` and `numpy` hold
functions too that run code or open files. The process imports nothing of this project, cannot write files
where the system allows that to be forbidden, and has limited memory and time.
"""

import io
import pickle
import sys
from importlib import import_module
from typing import Any

MEMORY, SECONDS = 16 * 2**30, 300
#: What may be named: module -> names. Old and new places of the same classes (pandas 1 to 3, numpy 1 and 2).
ALLOWED = {
    "pandas": {"DataFrame", "Index", "RangeIndex"},
    "pandas.core.frame": {"DataFrame"},
    "pandas.core.indexes.base": {"Index", "_new_Index"},
    "pandas.core.indexes.range": {"RangeIndex"},
    "pandas.core.indexes.numeric": {"Int64Index"},
    "pandas.core.internals.managers": {"BlockManager"},
    "pandas.core.internals.blocks": {"new_block"},
    "pandas._libs.internals": {"_unpickle_block"},
    "numpy": {"dtype", "ndarray"},
    "numpy.core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "numpy.core.numeric": {"_frombuffer"},
    "numpy._core.numeric": {"_frombuffer"},
    "builtins": {"slice"},  # how a table says which columns a block holds; it runs nothing
}
#: Classes that moved: pandas 2 has one Index for all numbers, numpy 2 its core under another name.
MOVED = {"pandas.core.indexes.numeric": "pandas.core.indexes.base"}


class Restricted(pickle.Unpickler):
    """An unpickler that looks up only the names in `ALLOWED`."""

    def find_class(self, module: str, name: str) -> Any:
        """The class or function of that name, if it is allowed."""
        if name not in ALLOWED.get(module, ()):
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not allowed")
        module = MOVED.get(module, module)
        if module.startswith("numpy.core."):
            module = module.replace("numpy.core.", "numpy._core.")
        return getattr(import_module(module), "Index" if name == "Int64Index" else name)


def table(data: bytes) -> Any:
    """The data frame of a pickle, its cells as numbers or texts.

    Raises
    ------
    pickle.UnpicklingError
        If it names anything that is not allowed, or is no table.
    """
    import pandas as pd

    frame = Restricted(io.BytesIO(data)).load()
    if type(frame) is not pd.DataFrame:
        raise pickle.UnpicklingError(f"it holds a {type(frame).__name__}, not a table")
    columns = {}
    for place, name in enumerate(frame.columns):
        cells = list(frame.iloc[:, place])
        if all(cell is None or isinstance(cell, int | float) for cell in cells):
            columns[str(name)] = pd.array(cells, dtype="Float64")
        else:
            columns[str(name)] = [None if cell is None or cell != cell else str(cell) for cell in cells]
    return pd.DataFrame(columns)


def main(path: str) -> int:
    """Write the table of a pickle to standard output; 1 and a line on standard error if it is refused."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    except (ImportError, ValueError, OSError):
        pass  # Windows, or a lower limit is set: the names that are allowed still are the only ones
    try:
        import pyarrow as pa

        with open(path, "rb") as stream:  # noqa: PTH123 - nothing is imported that is not needed
            frame = table(stream.read())
        content = pa.Table.from_pandas(frame, preserve_index=False)
        with pa.ipc.new_stream(sys.stdout.buffer, content.schema) as sink:
            sink.write_table(content)
    except Exception as error:  # whatever a broken pickle does, one line says so
        print(" ".join(f"{type(error).__name__}: {error}".split())[:300], file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
