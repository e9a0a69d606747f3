"""A made-up pool whose experts' answers are recorded."""

from pathlib import Path

import numpy as np
import pandas as pd

from skillmoe_lib.studies.outcomes import Outcomes, from_recorded


def made_up(n=60, n_experts=6, *, n_validation=30, seed=0, none=0.1) -> Outcomes:
    """Experts of two subjects: even ones know law, odd ones optics."""
    random = np.random.default_rng(seed)
    asked, rows = [], []
    for i in range(n):
        subject = ("law", "optics")[i % 2]
        asked.append((f"q{i}", "validation" if i < n_validation else "test", "A", subject, "choice", 5))
        for e in range(n_experts):
            right = random.random() < (0.8 if e % 2 == i % 2 else 0.35)
            answer = "A" if right else random.choice(list("BCDE"))
            answer = None if random.random() < none else answer
            rows.append((f"q{i}", f"e{e:02}", answer, answer == "A"))
    columns = ["question_id", "split", "gold", "subject", "kind", "n_choices"]
    given = pd.DataFrame(rows, columns=["question_id", "expert", "answer", "correct"])
    tokens = random.integers(10, 90, len(given)).astype(float)
    return from_recorded(pd.DataFrame(asked, columns=columns), given.assign(output_tokens=tokens))


def write_recordings(folder: Path, pool: Outcomes) -> Path:
    """The pool's answers as a folder that `studies.routers` reads."""
    folder.mkdir()
    asked = pool.questions.rename(columns={"subject": "category", "text": "question", "n_choices": "nopt"})
    asked = asked.rename_axis("qid").reset_index().assign(src="")
    asked["question"] = asked["category"] + " question " + asked["qid"]
    asked.to_parquet(folder / "questions.parquet")
    rows = [
        (expert, qid, pool.said[i, j], True, bool(pool.correct[i, j]))
        for i, qid in enumerate(pool.questions.index)
        for j, expert in enumerate(pool.experts)
    ]
    columns = ["model", "qid", "pred_clean", "same_item", "correct"]
    pd.DataFrame(rows, columns=columns).to_parquet(folder / "answers.parquet")
    return folder
