"""The error type whose message is written for the user."""

from collections.abc import Iterable
from importlib.util import find_spec


class SkillmoeError(Exception):
    """A mistake that the user can fix: one line with the thing, what is allowed and what was given."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows of it in a notebook: the line, without the calls that led there."""
        return [f"{type(self).__name__}: {self}"]


def unknown(kind: str, given: object, allowed: Iterable[object]) -> SkillmoeError:
    """Error for a name that is not one of a known set."""
    names = ", ".join(sorted(str(name) for name in allowed)) or "(none)"
    return SkillmoeError(f"unknown {kind} {str(given)!r}: it must be one of {names}")


def require(step: str, *modules: str, extra: str) -> None:
    """Refuse a step whose optional packages are missing, before it imports them.

    `extra` is the extra of pyproject.toml that installs them, such as `models` or `models,data`.

    Raises
    ------
    SkillmoeError
        Naming what is missing and the command that installs it.
    """
    if missing := [module for module in modules if find_spec(module) is None]:
        raise SkillmoeError(f'{step} needs {", ".join(missing)}: pip install "skillmoe[{extra}]"')
