"""Worked examples for a question: validation questions with right answers, chosen by shared skills.

What may be shown is gathered once for a run (`pipeline.example_bank`), from validation only. The same
question and bank always give the same examples.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from skillmoe_lib.experts import Expert
from skillmoe_lib.questions import Question
from skillmoe_lib.seeding import stable_seed

N_EXAMPLES = 5
#: The share of an expert's context that examples may fill; the question and its answer keep the rest.
SHARE_OF_CONTEXT = 0.25


class Example(NamedTuple):
    """A validation question, a right answer to it as others see it (no think text), and the tokens of both,
    as counted when the answer was generated."""

    question: Question
    text: str
    n_tokens: int


@dataclass(frozen=True)
class ExampleBank:
    """What worked examples are chosen from.

    Parameters
    ----------
    solved
        One example for each validation question that was answered right, by the most accurate expert that
        did.
    own
        Expert -> its own right answers; of experts that take examples.
    skills
        Question id -> its skills, those of test questions in the words of the profiles.
    score
        (expert, skill) -> right minus wrong validation answers (the Profiles table).
    """

    solved: tuple[Example, ...] = ()
    own: Mapping[str, tuple[Example, ...]] = field(default_factory=dict)
    skills: Mapping[str, frozenset[str]] = field(default_factory=dict)
    score: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def weak(self, question: Question, expert: Expert) -> bool:
        """Whether the expert gave more wrong than right validation answers on the question's skills: its
        suitability (docs/method.md 1.4) is below 0. A skill that it was never asked counts for neither."""
        return sum(self.score.get((expert.name, skill), 0) for skill in self._skills_of(question)) < 0

    def alike(self, question: Question, expert: Expert, examples: Iterable[Example]) -> list[Example]:
        """At most `N_EXAMPLES` that share a skill with the question, the most alike last.

        First those with the most shared skills, then those with the fewest others. One that would exceed
        `SHARE_OF_CONTEXT` of the expert's context is passed over.
        """
        own, left = self._skills_of(question), SHARE_OF_CONTEXT * expert.model.max_model_len
        ranked = []
        for example in examples:
            skills = self._skills_of(example.question)
            if shared := len(own & skills):
                tie = stable_seed("worked example", question.question_id, example.question.question_id)
                ranked.append((-shared, len(own | skills), tie, example))
        chosen: list[Example] = []
        for *_, example in sorted(ranked, key=lambda row: row[:3]):
            if len(chosen) < N_EXAMPLES and example.n_tokens <= left:
                chosen.append(example)
                left -= example.n_tokens
        return chosen[::-1]

    def _skills_of(self, question: Question) -> frozenset[str]:
        return self.skills.get(question.question_id, frozenset())
