"""Tables: frames that do not fit a schema are refused in one line; files are written whole or not at all."""

import errno

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skillmoe_lib import tables
from skillmoe_lib.errors import SkillmoeError

SCORE = {
    "request_id": "r1",
    "question_id": "q1",
    "expert": "A",
    "sample": 0,
    "answer": "B",
    "status": "answered",
    "correct": True,
    "truncated": False,
}
PROFILE = {"expert": "A", "skill": "algebra", "score": -2, "n": 4}


def a_table(folder, provenance):
    path = folder / "a.parquet"
    tables.write(pd.DataFrame([PROFILE]), path, tables.PROFILES, provenance)
    return path


def scores(*changes):
    return pd.DataFrame([{**SCORE, **change} for change in changes])


def test_a_table_has_the_columns_order_and_types_of_its_schema():
    shuffled = pd.DataFrame([PROFILE])[["n", "score", "skill", "expert"]].set_axis([7])
    got = tables.check(shuffled, tables.PROFILES)
    assert list(got.columns) == ["expert", "skill", "score", "n"]
    assert list(got.index) == [0]
    assert pd.api.types.is_string_dtype(got["skill"])
    assert [str(dtype) for dtype in got.dtypes[2:]] == ["Int64", "Int64"]


def test_missing_is_null_not_a_guess():
    got = tables.check(scores({"answer": None, "status": "unparsed", "correct": False}), tables.SCORES)
    assert got["answer"].isna().all()


WRONG = [
    ("a column more", scores({}).assign(extra=1), "extra"),
    ("a column less", scores({}).drop(columns="expert"), "expert"),
    ("an unknown status", scores({"status": "maybe"}), "status"),
    ("a null where none may be", scores({"expert": None}), "expert"),
    ("a null that would read as right", scores({"correct": float("nan")}), "correct"),
    ("a null that would read as wrong", scores({"correct": None}), "correct"),
    ("not a whole number", scores({"sample": 0.5}), "sample"),
    ("not a number", scores({"sample": "first"}), "sample"),
    ("the same key twice", scores({}, {"request_id": "r2"}), "question_id"),
]


@pytest.mark.parametrize(("frame", "column"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_what_does_not_fit_is_one_line_that_names_table_and_column(frame, column):
    with pytest.raises(SkillmoeError) as error:
        tables.check(frame, tables.SCORES)
    assert "'scores'" in str(error.value)
    assert column in str(error.value)
    assert "\n" not in str(error.value)


def test_a_profile_of_no_question_is_refused():
    with pytest.raises(SkillmoeError, match="'profiles'"):
        tables.check(pd.DataFrame([{**PROFILE, "n": 0}]), tables.PROFILES)


@settings(max_examples=25)
@given(
    st.lists(
        st.fixed_dictionaries({"skill": st.text(), "score": st.integers(-99, 99), "n": st.integers(1, 99)}),
        unique_by=lambda row: row["skill"],
    )
)
def test_a_table_comes_back_as_it_was_written(tmp_path_factory, rows):
    frame = pd.DataFrame([{"expert": "é", **row} for row in rows], columns=["expert", "skill", "score", "n"])
    path = tmp_path_factory.mktemp("tables") / "made" / "profiles.parquet"
    tables.write(frame, path, tables.PROFILES, {"k": 3, "pool": "é"})
    pd.testing.assert_frame_equal(
        tables.read(path, tables.PROFILES), tables.check(frame, tables.PROFILES), check_exact=True
    )
    assert tables.provenance(path) == {"k": 3, "pool": "é"}


def test_a_table_that_is_not_there_says_how_it_is_made(tmp_path):
    with pytest.raises(SkillmoeError, match=r"no table 'routes' .*run the notebook that writes it") as error:
        tables.read(tmp_path / "routes.parquet", tables.ROUTES)
    assert "\n" not in str(error.value)


def test_a_table_of_another_kind_is_refused(tmp_path):
    path = a_table(tmp_path, {})
    with pytest.raises(SkillmoeError, match="'scores'"):
        tables.read(path, tables.SCORES)


@pytest.mark.parametrize("damage", [b"", b"not parquet", None])
def test_a_torn_table_is_one_line_with_the_remedy(tmp_path, damage):
    path = a_table(tmp_path, {})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    for read in (lambda: tables.read(path, tables.PROFILES), lambda: tables.provenance(path)):
        with pytest.raises(SkillmoeError, match=r"a\.parquet cannot be read .*delete it") as error:
            read()
        assert "\n" not in str(error.value)


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("place", ["os.fsync", "Path.replace", "Path.open"])
def test_a_full_disk_leaves_the_table_as_it_was(tmp_path, monkeypatch, place):
    path = a_table(tmp_path, {"run": 1})
    before = path.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(f"skillmoe_lib.files.{place}", full)
        with pytest.raises(SkillmoeError, match="No space left on device; what was stored is intact"):
            tables.write(pd.DataFrame([{**PROFILE, "n": 9}]), path, tables.PROFILES, {"run": 2})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.parquet"]
    tables.write(pd.DataFrame([{**PROFILE, "n": 9}]), path, tables.PROFILES, {"run": 2})
    assert tables.provenance(path) == {"run": 2}


def test_nothing_is_written_of_a_table_that_does_not_fit(tmp_path):
    with pytest.raises(SkillmoeError):
        tables.write(scores({"status": "maybe"}), tmp_path / "a.parquet", tables.SCORES, {})
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SkillmoeError, match="cannot write") as error:
        tables.write(pd.DataFrame([PROFILE]), tmp_path / "file" / "a.parquet", tables.PROFILES, {})
    assert "\n" not in str(error.value)
