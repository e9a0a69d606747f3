"""The audit on made-up texts with counts done by hand, and agreement with recorded answers if present."""

from pathlib import Path

import nbformat
import pandas as pd
import pytest

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.studies import extraction as audit_module
from skillmoe_lib.studies.extraction import (
    AGREES,
    accuracy_interval,
    agreement,
    audit,
    compare_with_recorded,
    kinds,
    load_recorded,
    rates,
    stated,
)

ROOT = Path(__file__).resolve().parents[2]
RECORDED = ROOT.parent / "shared" / "data" / "recorded_mmlu_pro"


def frame() -> pd.DataFrame:
    rows = [
        # expert, text, gold, finish_reason, recorded, recorded_source
        ("ada", "The answer is C. Options A) and B) are wrong.", "C", "stop", "C", "regex"),
        ("ada", "The answer is (A). All in all, the answer is (B).", "B", "stop", "A", "regex"),
        ("ada", "I wonder whether A", "A", "length", "A", "last_letter"),
        ("ada", "Answer: (D)", "A", "stop", None, "none"),
        ("bob", "The answer is (A) and (B).", "A", "stop", "A", "regex"),
        ("bob", "The answer is (F).", "A", "stop", "F", "regex"),
        ("bob", "Nothing to say", "A", None, None, "none"),
        ("bob", "The answer is Always.", "A", "length", "A", "regex"),
    ]
    columns = ["expert", "text", "gold", "finish_reason", "recorded", "recorded_source"]
    made = pd.DataFrame(rows, columns=columns).astype("string")
    return made.assign(question_id=[f"q{i % 4}" for i in range(8)], n_choices=4, instruction_tuned=True)


def test_audit_sets_extractors_side_by_side() -> None:
    made = frame()
    table = audit(list(made["text"]), list(made["n_choices"]))
    assert list(table) == ["rules", "strict", "first", "released"]
    expected = {
        "rules": ["C", "B", None, "D", "A", None, None, None],
        "strict": ["C", "B", None, None, None, None, None, None],
        "first": ["C", "A", None, None, "A", None, None, "A"],
        "released": ["B", "B", "A", "D", "B", "A", None, "A"],
    }
    expected["released"][5] = None  # "The answer is (F)." holds no capital from A to D
    for name, column in expected.items():
        assert [None if pd.isna(value) else value for value in table[name]] == column, name


def test_audit_takes_other_extractors_and_no_texts() -> None:
    assert list(audit(["x"], [4], {"always A": lambda text, n: "A"})["always A"]) == ["A"]
    assert audit([], []).shape == (0, 4)


def test_rates() -> None:
    table = rates(frame()).set_index(["expert", "extractor"])
    ada = table.loc[("ada", "rules")]
    assert (ada["n"], ada["unparsed"], ada["cut"], ada["accuracy"]) == (4, 0.0, 0.25, 0.5)
    bob = table.loc[("bob", "rules")]
    assert (bob["n"], bob["unparsed"], bob["cut"], bob["accuracy"]) == (4, 0.5, 0.25, 0.25)
    assert table.loc[("ada", "released"), "accuracy"] == 0.5
    assert table.loc[("bob", "first"), "accuracy"] == 0.5
    assert ((table["low"] < table["accuracy"]) & (table["accuracy"] < table["high"])).sum() >= 6


def test_rates_do_not_hang_on_the_index() -> None:
    made = frame()
    shuffled = made.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(rates(made), rates(shuffled))
    pd.testing.assert_frame_equal(rates(made), rates(made.set_axis(range(100, 108))))


def test_accuracy_interval() -> None:
    table = accuracy_interval(rates(frame())).set_index("expert")
    # ada: rules C B - D -> 2 of 4; strict 2; first 1 (C); released 2 (B, A)
    assert tuple(table.loc["ada", ["low", "low_extractor", "high"]]) == (0.25, "first", 0.5)
    # bob: rules 1, strict 0, first 2, released 1
    bob = table.loc["bob"]
    assert (bob["low"], bob["low_extractor"]) == (0.0, "strict")
    assert (bob["high"], bob["high_extractor"], bob["n"]) == (0.5, "first", 4)
    assert list(table.index) == ["bob", "ada"], "widest first"


@pytest.mark.parametrize(
    ("text", "letters"),
    [
        ("The answer is (A).", "A"),
        ("The answer is **A**. Final answer: B", "AB"),
        ("The answer is (A) and (B).", "A"),
        ("The answer is Always so.", "A"),
        (r"the answer is $\boxed{C}$", "C"),
        ("Answer:** D", "D"),
        ("answers are B, C", "B"),
        ("no idea (A)", ""),
    ],
)
def test_stated(text: str, letters: str) -> None:
    assert stated(text) == frozenset(letters)


def test_compare_names_the_kind_of_every_difference() -> None:
    compared = compare_with_recorded(frame())
    assert list(compared["kind"]) == [
        AGREES,
        "several stated: the last against the first",
        "recorded by last letter; none stated",
        "none recorded; read by rule answer_colon",
        AGREES,
        "recorded letter is beyond the choices",
        AGREES,
        "recorded letter starts a word",
    ]
    assert list(compared["lists"]) == [False] * 4 + [True] + [False] * 3


def test_agreement_counts_every_row_once() -> None:
    compared = compare_with_recorded(frame())
    table = agreement(compared)
    assert table["n"].sum() == len(compared)
    one = table.set_index(["recorded_source", "states"]).loc[("regex", "one")]
    assert (one["n"], one["n_agree"]) == (3, 1)  # C agrees; F and "Always" do not
    assert kinds(compared)["n"].sum() == len(compared)


def test_absent_folder_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SkillmoeError, match=r"no recorded runs at .*missing: data_dir must be"):
        load_recorded(tmp_path / "missing")


@pytest.fixture(scope="module")
def recorded() -> pd.DataFrame:
    if not RECORDED.is_dir():
        pytest.skip("../shared is absent: no recorded runs to agree with")
    return compare_with_recorded(load_recorded(RECORDED))


def test_agreement_with_recorded_answers(recorded: pd.DataFrame) -> None:
    """Texts that state one answer: at least 99.8%, also where "(A) and (B)" counts as stating A."""
    rows = recorded[recorded["instruction_tuned"] & recorded["recorded_source"].eq("regex")]
    one = rows[rows["n_stated"].eq(1)]
    assert len(one) > 0.97 * len(rows) > 5000, "what states one answer must not be chosen to agree"
    assert one["kind"].eq(AGREES).mean() >= 0.998
    assert one[~one["lists"]]["kind"].eq(AGREES).mean() >= 0.998
    assert not rows["kind"].eq("other").any(), "every difference has a kind"
    # What is left out is what the two readings are bound to differ on, and nothing else.
    left_out = rows[~rows["n_stated"].eq(1) & ~rows["kind"].eq(AGREES)]
    assert set(left_out["kind"]) == {"several stated: the last against the first"}


def test_agreement_by_a_plain_count_of_letters(recorded: pd.DataFrame) -> None:
    """The same by the narrowest reading of "states one answer": one letter in all "answer is (X)"."""
    rows = recorded[recorded["instruction_tuned"] & recorded["recorded_source"].eq("regex")]
    letters = rows["text"].str.findall(r"answer is \(?([A-J])\)?").map(set)
    one = rows[letters.map(len).eq(1)]
    assert len(one) > 5000
    assert one["kind"].eq(AGREES).mean() >= 0.998


def test_base_models_agree_on_their_first_turn(recorded: pd.DataFrame) -> None:
    rows = recorded[~recorded["instruction_tuned"] & recorded["recorded_source"].eq("regex")]
    assert len(rows) > 4000
    assert rows["kind"].eq(AGREES).mean() >= 0.998


def test_every_extractor_is_within_the_interval(recorded: pd.DataFrame) -> None:
    some = recorded[recorded["question_id"].isin(recorded["question_id"].unique()[:40])]
    table = rates(some)
    assert set(table["extractor"]) == set(audit_module.EXTRACTORS)
    joined = table.merge(accuracy_interval(table), on="expert", suffixes=("", "_bound"))
    assert (joined["accuracy"] >= joined["low_bound"]).all()
    assert (joined["accuracy"] <= joined["high_bound"]).all()


def test_notebook_runs_on_recorded_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not RECORDED.is_dir():
        pytest.skip("../shared is absent: the notebook has no texts to audit")
    import papermill

    monkeypatch.setenv("SKILLMOE_HOME", str(tmp_path))
    papermill.execute_notebook(
        ROOT / "notebooks" / "studies" / "audit_extraction.ipynb",
        tmp_path / "executed.ipynb",
        parameters={"data_dir": str(RECORDED), "n_questions": 20},
        cwd=tmp_path,
        progress_bar=False,
        kernel_name="python3",
    )
    tables = {path.stem: pd.read_csv(path) for path in (tmp_path / "reports/audit/tables").glob("*.csv")}
    assert set(tables) == {
        "extraction_rates",
        "extraction_intervals",
        "extraction_agreement",
        "extraction_kinds",
    }
    assert (tables["extraction_rates"]["n"] <= 20).all()
    assert tables["extraction_agreement"]["n"].sum() == tables["extraction_kinds"]["n"].sum()
    assert nbformat.read(tmp_path / "executed.ipynb", as_version=4).cells
