"""YAML files that people write (pools, benchmarks, worked examples): read strictly, errors of one line.

A key that occurs twice is refused, and no value is silently converted to another type (YAML reads `No` as
false, `1e-3` as text and `2020-01-01` as a date). The keys of a file are a pydantic model that inherits from
`Settings`; every error reads FILE: key: what is allowed; got what.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.paths import project_file

T = TypeVar("T")


class Settings(BaseModel):
    """Keys of a YAML file or of a part of one: no others are allowed, and types are not converted."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, given: Any) -> Any:
        if isinstance(given, cls):
            return given
        keys = ", ".join(sorted(cls.model_fields))
        if not isinstance(given, Mapping):
            raise PydanticCustomError("allowed", "a mapping with the keys {keys}", {"keys": keys})
        for key in given:
            if key not in cls.model_fields:
                what = {"key": repr(key), "keys": keys}
                raise PydanticCustomError("key", "unknown key {key}: it must be one of {keys}", what)
        return given


def told_as(allowed: str) -> WrapValidator:
    """Part of an annotated type: whatever is wrong with a value, the error says what is allowed."""

    def check(value: Any, handler: Callable[[Any], Any], _: ValidationInfo) -> Any:
        try:
            return handler(value)
        except ValidationError as error:
            hint = ""
            if "number" in allowed and isinstance(value, str):
                hint = ", not text (to YAML 1e-3 and 4,096 are text: write 0.001 and 4096)"
            elif "text" in allowed and value is not None and not isinstance(value, str | list | dict):
                hint = " (put it in quotes: without them YAML reads it as another type)"
            raise PydanticCustomError("allowed", "{text}", {"text": allowed + hint}) from error

    return WrapValidator(check)


Text = Annotated[str, Field(min_length=1, pattern=r"\S"), told_as("text")]
Flag = Annotated[bool, told_as("true or false")]
Count = Annotated[int, Field(ge=1), told_as("a whole number of at least 1")]
WholeNumber = Annotated[int, Field(ge=0), told_as("a whole number of at least 0")]


class _OnceOnly(yaml.SafeLoader):
    """The safe loader, with an error for a key that occurs twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """As the safe loader does, after checking the keys for repeats."""
        seen: set[Any] = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            key = (key_node.tag, key_node.value) if isinstance(key_node, yaml.ScalarNode) else id(key_node)
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key_node.value!r} occurs twice", problem_mark=key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def read_yaml(path: Path) -> Any:
    """What a YAML file holds.

    Raises
    ------
    SkillmoeError
        If the file cannot be read, is not UTF-8 or not YAML, or has a key twice; names the line.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_OnceOnly)  # noqa: S506 - a safe loader
    except yaml.MarkedYAMLError as error:
        line = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
        reason = " ".join(filter(None, (error.context, error.problem))) + line
        if "'\\t'" in reason:
            reason = f"a tab where YAML allows only spaces{line}"
    except UnicodeDecodeError:
        reason = "it is not UTF-8 text"
    except OSError as error:
        reason = error.strerror or type(error).__name__
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date such as 2020-13-01
        reason = " ".join(str(error).split())
    raise SkillmoeError(f"{path.name} is not readable as YAML: {reason}")


def checked(form: type[T], given: Any, where: str) -> T:
    """What a file holds as the type `form` (a `Settings` class, or a list of them).

    Raises
    ------
    SkillmoeError
        For the first fault; the message begins with `where` (the file's name).
    """
    try:
        return TypeAdapter(form).validate_python(given, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    *way, last = ["", *first["loc"]]
    if first["type"] == "missing":
        raise SkillmoeError(f"{_place(where, way)}: the key {last!r} is missing")
    place = _place(where, [*way, last])
    if first["type"] == "key":
        raise SkillmoeError(f"{place}: {first['msg']}")
    allowed = first["msg"]
    if first["type"] == "literal_error":
        allowed = "one of " + first["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
    elif first["type"] == "list_type":
        allowed = "a list"
    elif first["type"] == "dict_type":
        allowed = "a mapping"
    shown = "a text that is not shown, in case it is a key" if last == "key" else repr(first["input"])
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    raise SkillmoeError(f"{place}: it must be {allowed}; got {shown}")


def _place(where: str, way: list[Any]) -> str:
    """`toy.yaml: experts[2]: stop` for the keys that lead there; list entries count from 1."""
    for step in way:
        where += f"[{step + 1}]" if isinstance(step, int) else f": {step}" if step else ""
    return where


def as_json(value: Any, where: str) -> str:
    """A free mapping of a YAML file as JSON text; a one-line error if it holds a date or the like."""
    try:
        return json.dumps(value)
    except (TypeError, ValueError) as error:
        raise SkillmoeError(f"{where}: numbers, texts, lists and mappings are allowed; {error}") from error


def find_beside(file: Path, name: str) -> Path | None:
    """The file or folder that a YAML file names: first beside the YAML, then from the project's root."""
    if not name:
        return None
    return next((path for path in (file.parent / name, project_file(name)) if path.exists()), None)
