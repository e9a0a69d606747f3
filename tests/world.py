"""A small world: eight validation and eight test questions, and experts whose skill is known.

ann knows only sums and bob only logic; cid knows the even questions of both; dee knows nothing, but reads
others well: if she is shown a right solution she takes it, while all others take the first they see.
"""

import pandas as pd
import pytest
import scenes
from scenes import says

from skillmoe_lib import pipeline
from skillmoe_lib.inference.engines.scripted import ScriptedEngine
from skillmoe_lib.inference.store import GenerationStore
from skillmoe_lib.pipeline import Session
from skillmoe_lib.profiling import skills
from skillmoe_lib.routing.skill_router import SkillRouter

SPLITS = ("validation", "test")
NAMES = {
    (split, topic, i): f"{split[0]}-{topic}-{i}"
    for split in SPLITS
    for topic in ("sums", "logic")
    for i in range(4)
}
TRUTH = {name: "ABC"[(i + len(topic)) % 3] for (_, topic, i), name in NAMES.items()}
QUESTIONS = scenes.frame(
    [
        scenes.question(name, TRUTH[name], split=split, subject=topic, text=f"{topic} {i} of {split}?")
        for (split, topic, i), name in NAMES.items()
    ]
)
POOL = scenes.pool("ann", "bob", "cid", "dee")
METHODS = ["symbolic_moe", "majority_vote", "cot_task_best", "self_consistency", "random_k", "top_k"]


def wrong(letter):
    return "ABC"[("ABC".index(letter) + 1) % 3]


def knows(name, question_id):
    _, topic, i = question_id.split("-")
    return {"ann": topic == "sums", "bob": topic == "logic", "cid": int(i) % 2 == 0}.get(name, False)


def reply(request):
    """What each expert says; it goes by the truth, not by the table's gold."""
    right = TRUTH[request.question_id]
    if request.stage == "keywords":
        return f"Keywords: {request.question_id.split('-')[1]}, reading"
    if request.stage == "aggregate":
        seen = scenes.shown_to(request).partition("Proposed solutions:")[2]
        found = [letter for letter in "ABC" if f"The answer is ({letter})" in seen]
        first = min(found, key=lambda letter: seen.index(f"({letter})"))
        return says(right if request.expert == "dee" and right in found else first)
    return says(right if knows(request.expert, request.question_id) else wrong(right))


def session_at(root, rule=reply, pool=POOL):
    return Session(pool, ScriptedEngine(rule), GenerationStore(root))


@pytest.fixture(autouse=True)
def no_encoder(monkeypatch):
    """Embeddings are made of letters here; only one test below loads the paper's encoder."""
    monkeypatch.setattr(skills, "load_encoder", lambda: None)
    monkeypatch.setattr(skills, "embed", lambda texts, encoder=None: _letters(texts))


def _letters(texts):
    alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"
    counts = pd.DataFrame([[text.count(letter) for letter in alphabet] for text in texts], dtype=float)
    return counts.div((counts**2).sum(axis=1) ** 0.5, axis=0).to_numpy()


class Flow:
    """All steps, in order."""

    def __init__(self, session, questions=QUESTIONS, names=METHODS, seeds=(0,)):
        self.named = pipeline.annotate(session, questions)
        self.scores = pipeline.validate(session, questions)
        self.examined = pipeline.examine(session, questions, self.scores)
        self.choice = pipeline.choose(self.scores, self.examined)
        self.matched = pipeline.matched(self.named, questions)
        self.router = SkillRouter(k=3, trim=0.05, temperature=0.125)
        self.routes = pipeline.recruit(
            names, self.router, questions, self.named, self.matched, self.scores, seeds=seeds
        )
        self.bank = pipeline.example_bank(session, questions, self.named, self.matched, self.scores)
        self.done = pipeline.compete(
            session, names, questions, self.routes, self.choice, seeds=seeds, bank=self.bank
        )


def accuracy(results):
    return results.groupby("method")["correct"].mean().to_dict()
