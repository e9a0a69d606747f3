"""The command `import`: the format is recognised from the content, and what was read and lacks is said."""

import json
import time
from pathlib import Path

import pandas as pd
import pytest
from archives import zipped, zipped_by_zstandard

from skillmoe_lib import recorded
from skillmoe_lib.cli.commands import main
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.recorded import Options, importing

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "recorded_mmlu_pro"
ENTRY = {
    "question_id": 1,
    "question": "?",
    "options": ["a", "b"],
    "answer": "A",
    "pred": "A",
    "model_outputs": "A",
}
FILES = {
    "samples_x.jsonl": '{"doc_id": 0, "doc": {}, "filtered_resps": ["1"], "resps": [["1"]]}\n',
    "renamed.json": json.dumps([ENTRY]),
    "b.json": '{"records": [], "model_name": "m", "dataset_name": "d"}',
    "state.json": '{"adapter_spec": {}, "request_states": []}',
    "c.jsonl": '{"global_index": "A_1", "generated_answer": "B", "long": "' + "x" * 2**20 + '"}\n',
    "p.jsonl": '{"global index": "A_1", "prediction": "m"}\n',
    "e.csv": "prompt_id,model_id,category_id,label,prompt,model_name,category\n1,1,1,1,?,m,c\n",
    "r.csv": '\ufeffprompt,m,n\n"Why, then?",True,False\n',
    "wide.csv": "sample_id,prompt,eval_name,m,m|model_response,m|total_cost\n1,?,e,1,x,0\n",
    "mine.csv": "question_id,expert,answer,gold\n1,m,A,A\n",
    "mine.json": '[{"question_id": 1, "expert": "m", "correct": true}]',
}
FORMATS = [
    "lm_eval", "mmlu_pro", "llmrouterbench", "helm", "routerarena", "routerarena", "embedllm", "routellm",
    "routerbench", "plain", "plain",
]  # fmt: skip


@pytest.mark.parametrize(("name", "expected"), zip(FILES, FORMATS, strict=True))
def test_the_format_is_recognised_from_the_content(tmp_path: Path, name: str, expected: str) -> None:
    (tmp_path / name).write_text(FILES[name], encoding="utf-8")
    assert importing.recognised(tmp_path / name) == expected


def test_archives_pickles_folders_and_parquet_are_recognised(tmp_path: Path) -> None:
    log = zipped_by_zstandard(tmp_path / "log", {"header.json": "{}", "samples/1_epoch_1.json": "{}"})
    assert importing.recognised(log) == "inspect"
    assert importing.recognised(zipped(tmp_path / "m.zip", {"x/m.json": "[]"})) == "mmlu_pro"
    (tmp_path / "x.pkl").write_bytes(b"\x80\x04.")
    assert importing.recognised(tmp_path / "x.pkl") == "routerbench"
    (tmp_path / "scenario_state.json").write_text("{}")
    assert importing.recognised(tmp_path) == "helm"
    frame = pd.DataFrame({"qid": [1], "expert": ["m"], "correct": [True]})
    frame.to_parquet(tmp_path / "x")
    assert importing.recognised(tmp_path / "x", Options(columns={"question_id": "qid"})) == "plain"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        (
            "x.csv",
            "a,b\n1,2\n",
            "the format of x.csv is not known: name one with --format, of embedllm, helm,",
        ),
        ("x.txt", "hello", "the format of x.txt is not known"),
        ("x.json", "[1, 2]", "the format of x.json is not known"),
        ("x.jsonl", '{"doc_id": 1, "fil', "cannot read x.jsonl: line 1: it is not JSON"),
        ("x.csv", b"question_id,expert\n\xff", "cannot read x.csv: it is not UTF-8 text; save it as UTF-8"),
        ("x.zip", b"PK\x03\x04 torn", "cannot read x.zip: it is torn, or no zip archive"),
        ("x.parquet", b"PAR1 torn", "cannot read x.parquet: "),
        (
            "x.csv",
            "prompt_id,label,prompt,model_name,question_id,expert,correct\n1,1,?,m,1,m,1\n",
            "x.csv may be embedllm or plain: say which with --format",
        ),
    ],
)
def test_what_is_unknown_torn_or_ambiguous_is_one_line(
    tmp_path: Path, name: str, content, reason: str
) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SkillmoeError) as caught:
        importing.recognised(tmp_path / name)
    assert str(caught.value).startswith(reason)
    assert "\n" not in str(caught.value)


def test_a_path_that_leads_nowhere_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SkillmoeError, match="no file "):
        importing.recognised(tmp_path / "none.csv")
    with pytest.raises(
        SkillmoeError, match=r"is a folder without scenario_state\.json: name the files in it"
    ):
        importing.recognised(tmp_path)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SKILLMOE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_writes_a_recording_and_says_what_is_missing(home: Path, capsys) -> None:
    (home / "a.csv").write_text("qid,m,right\n1,ann,1\n2,ann,0\n")
    (home / "b.csv").write_text("qid,m,right\n1,bob,1\n")
    columns = ["--column", "question_id=qid", "expert=m", "--column", "correct=right"]
    assert main(["import", "a.csv", "b.csv", "--as", "both", *columns]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"wrote {home / 'data' / 'recorded' / 'both'}: 2 questions, 2 experts, 3 answers"
    for line in (
        "missing: answers: not recorded",
        "missing: prompt tokens: not recorded",
        "missing: finish reasons: not recorded",
        "missing: repeats: one answer for each question and expert",
        "missing: validation split: not recorded",
        "missing: question sets: 1 of 2 experts lack some of the 2 questions; kept as not_run (bob 1)",
        "single experts: 1 questions exact, 1 new calls (1 answers of experts were not run)",
        "votes of experts: 0 questions exact, needs another recording (answers are not recorded)",
    ):
        assert line in lines
    found = recorded.load("both")
    assert len(found.answers) == 4
    assert found.missing == [line.removeprefix("missing: ") for line in lines if line.startswith("missing: ")]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--format", "csv"], "unknown format 'csv': it must be one of embedllm, helm, inspect,"),
        (["--column", "question_id"], "a column must be given as NAME=VALUE, got 'question_id'"),
        (["--metric", "acc"], "mine.csv is read as plain, which takes no metric; it takes columns, where,"),
        (["--column", "gold=right"], "unknown column of mine.csv (for gold) 'right'"),
        (["--questions", "none.csv"], "cannot read none.csv: "),
        (["--as", "../up"], "the name of a recording must be letters, digits, _, - or .; got '../up'"),
    ],
)
def test_a_wrong_request_is_one_line(home: Path, capsys, arguments: list[str], reason: str) -> None:
    (home / "mine.csv").write_text(FILES["mine.csv"])
    assert main(["import", "mine.csv", "--as", "x", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {reason}")
    assert said.count("\n") == 1
    assert not (home / "data").exists()


def test_both_files_of_a_helm_run_are_read_once(home: Path) -> None:
    (home / "run").mkdir()
    instance = {"input": {"text": "?"}, "references": [], "id": "id1"}
    state = {"instance": instance, "result": {"success": True, "completions": [{"text": "x"}]}}
    stat = {"instance_id": "id1", "stats": [{"name": {"name": "exact_match"}, "count": 1, "sum": 1}]}
    paths = [home / "run" / name for name in ("scenario_state.json", "per_instance_stats.json")]
    paths[0].write_text(json.dumps({"adapter_spec": {"model": "m"}, "request_states": [state]}))
    paths[1].write_text(json.dumps([stat]))
    assert importing.read_all(paths).answers["correct"].tolist() == [True]


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared is absent: no recorded MMLU-Pro")
def test_recorded_mmlu_pro_is_read_in_seconds(home: Path) -> None:
    """Facts of its README: 2,444 questions in two splits, 32 models, letters that are nowhere in the text."""
    columns = {
        "question_id": "qid", "expert": "model", "answer": "pred_clean", "subject": "category",
        "choices": "options",
    }  # fmt: skip
    options = Options(columns=columns, where={"same_item": "true"}, questions=SHARED / "questions.parquet")
    started = time.monotonic()
    found, folder = importing.import_files([SHARED / "answers.parquet"], "mmlu_pro", options=options)
    table = found.can_answer().set_index("what")
    assert time.monotonic() - started < 20
    assert found.questions["split"].value_counts().to_dict() == {"test": 2094, "validation": 350}
    assert found.answers.groupby("expert").size().to_dict() == dict.fromkeys(
        sorted(set(found.answers["expert"])), 2444
    )
    assert found.answers["expert"].nunique() == 32
    ran = found.answers[found.answers["status"] != "not_run"]
    as_given = pd.read_parquet(SHARED / "answers.parquet").query("same_item")
    assert len(ran) == len(as_given)
    assert ran.groupby("expert")["correct"].mean().to_dict() == pytest.approx(
        as_given.groupby("model", observed=True)["correct"].mean().to_dict()
    )
    assert (ran["status"] == "unparsed").sum() == as_given["pred_clean"].isna().sum()
    assert 0 < table.loc["all experts and an aggregator", "new_calls"] <= 2444
    assert any(line.startswith("question sets: ") for line in found.missing)
    assert len(recorded.load(folder).answers) == len(found.answers)
