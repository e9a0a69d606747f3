"""The keys of a benchmark's YAML file, by its source. Paths are relative to the YAML file's folder, or else
to the project's root; columns are named as they are in your file.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from skillmoe_lib.settings import Count, Flag, Settings, Text, WholeNumber, told_as

Name = Annotated[Text, told_as("a column's name: text")]
Seed = Annotated[int, told_as("a whole number")]


class Columns(Settings):
    """Which column holds what. `choices` is one column that holds them all, or a list of columns."""

    text: Name = ""
    gold: Name = ""
    choices: Annotated[str | list[Name], told_as("a column's name or a list of names: text")] = ""
    subject: Name = ""
    question_id: Name = ""


class Expect(Settings):
    """How many questions each split should have; a different number gives a warning."""

    validation: WholeNumber | None = None
    test: WholeNumber | None = None


class Part(Settings):
    """How one split is made: its rows, and which of them are kept.

    `where` names columns and the value, or list of values, that they must have; `per_subject` draws this
    many questions of each subject; `minus: test` leaves out questions that are in test; `columns` override
    those of the benchmark. `name`, `split` and `revision` are only for the hub.
    """

    path: Text | None = None
    name: Text | None = None
    split: Text = "test"
    revision: Text | None = None
    columns: Columns = Columns()
    where: Annotated[
        dict[Text, str | int | float | bool | list[str | int | float | bool]],
        told_as("columns, each with a value or a list of values"),
    ] = {}  # noqa: RUF012 - pydantic copies it
    per_subject: Count | None = None
    minus: Literal["test"] | None = None


PartOrPath = Annotated[
    Part, BeforeValidator(lambda given: {"path": given} if isinstance(given, str) else given)
]


class Files(Settings):
    """A benchmark of source `file`.

    `gold_is` says what the gold column holds if the kind is "choice": the choice's letter (or its own
    label), its number counted from `index_from`, or its text. `inlined_choices` is the marker before
    "(A) ... (B) ..." inside the text. `shuffle_choices` and `seed` are seeds.
    """

    description: Text | None = None
    kind: Literal["choice", "math", "text"] = "choice"
    columns: Columns
    gold_is: Literal["letter", "index", "text"] = "letter"
    index_from: Annotated[int, Field(ge=0, le=1), told_as("0 or 1")] | None = None
    inlined_choices: Text | None = None
    shuffle_choices: Seed | None = None
    missing_gold: Literal["error", "drop"] = "error"
    seed: Seed = 0
    expect: Expect = Expect()
    validation: PartOrPath
    test: PartOrPath


class Hub(Files):
    """A benchmark of source `hub`: a data set of the hub, or a local folder of the same layout."""

    path: Text | None = None
    revision: Text | None = None
    gated: Flag = False


class Drawn(Settings):
    """How one split is drawn: `size` questions of each family."""

    seed: WholeNumber
    size: WholeNumber


class Family(Settings):
    """A family of reasoning-gym: its `config`, how it is graded, and a sentence added to the text."""

    family: Text
    config: Annotated[dict[str, Any], told_as("a mapping")] | None = None
    kind: Literal["math", "text"]
    grade: Literal["checker", "exact"] = "exact"
    ask: Text | None = None


class ReasoningGym(Settings):
    """A benchmark of source `reasoning_gym`."""

    description: Text | None = None
    validation: Drawn
    test: Drawn
    families: list[Family]
