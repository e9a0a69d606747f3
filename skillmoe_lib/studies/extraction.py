"""How much depends on the way answers are read: several extractors on the same texts.

Accuracy depends on the extractor as well as on the model: `accuracy_interval` gives, for each expert, the
least and the greatest accuracy over the extractors, which should accompany any comparison of experts.
Works on tidy frames with the columns expert, question_id, text, n_choices, gold and finish_reason ("length"
if the token limit stopped the text; null if that was not recorded).

`load_recorded` reads recorded runs on MMLU-Pro (github.com/TIGER-AI-Lab/MMLU-Pro), whose own answers were
read by another extractor: the *first* "answer is (X)". `compare_with_recorded` sets ours beside them.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from types import MappingProxyType
from typing import Any

import pandas as pd

from skillmoe_lib.answers.extraction import STRICT, extract_choice, extract_released, find_choice, first_turn
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation.intervals import wilson

Extractor = Callable[[str, int], str | None]
AGREES = "agrees"
#: Recorded texts were cut at this many characters.
STORED_CHARACTERS = 6000
#: Recorded models without instruction tuning: they continue to write after their answer.
BASE_MODELS = frozenset(
    {
        "Llama-2-7b-hf", "Llama-2-13b-hf", "Llama-2-70b-hf", "Meta-Llama-3-8B", "Meta-Llama-3-70B",
        "Meta-Llama-3_1-8B", "Meta-Llama-3_1-70B", "Mistral-7B-v0.1", "Mistral-7B-v0.2-hf",
        "Mixtral-8x7B-v0.1", "Qwen1.5-110B", "Yi-6B", "Yi-34B", "gemma-7b",
    }
)  # fmt: skip


def extract_strict(text: str, n_choices: int) -> str | None:
    """The last "answer is (X)" alone: no fallback, no letter from "(X) and (Y)"."""
    found = find_choice(text, n_choices)
    return found.value if found.rule == STRICT else None


def extract_first(text: str, n_choices: int) -> str | None:
    """The first "answer is (X)", as MMLU-Pro's own evaluation reads it, even if X starts a word."""
    match = re.search(r"answer is \(?([A-J])\)?", text)
    return match.group(1) if match and match.group(1) in ascii_uppercase[:n_choices] else None


#: The extractors compared, by name; "rules" is what the project uses.
EXTRACTORS: Mapping[str, Extractor] = MappingProxyType(
    {
        "rules": extract_choice,
        "strict": extract_strict,
        "first": extract_first,
        "released": extract_released,
    }
)


def audit(
    texts: Sequence[str], n_choices: Sequence[int], extractors: Mapping[str, Extractor] = EXTRACTORS
) -> pd.DataFrame:
    """Answers side by side: one row per text, one column per extractor, null if it found none."""
    rows = list(zip(texts, n_choices, strict=True))
    columns = {name: [extract(text, n) for text, n in rows] for name, extract in extractors.items()}
    return pd.DataFrame(columns, dtype="string")


def rates(frame: pd.DataFrame, extractors: Mapping[str, Extractor] = EXTRACTORS) -> pd.DataFrame:
    """For each expert and extractor: n, texts without an answer by reason, accuracy with its 95% interval.

    `cut` counts the texts without an answer that the token limit stopped, `unparsed` those that ended by
    themselves or whose end was not recorded; both are fractions of n, and count as wrong.
    """
    answers = audit(list(frame["text"]), list(frame["n_choices"]), extractors)
    answers.index = frame.index
    stopped = frame["finish_reason"].eq("length").fillna(False).astype(bool)
    rows = []
    for (expert, extractor), found in (
        ((expert, name), answers.loc[part.index, name])
        for expert, part in frame.groupby("expert", sort=True)
        for name in extractors
    ):
        is_null, n = found.isna(), len(found)
        correct = found.eq(frame.loc[found.index, "gold"]).fillna(False)
        accuracy = wilson(int(correct.sum()), n)
        rows.append(
            {
                "expert": expert,
                "extractor": extractor,
                "n": n,
                "unparsed": (is_null & ~stopped.loc[found.index]).mean(),
                "cut": (is_null & stopped.loc[found.index]).mean(),
                "accuracy": accuracy.estimate,
                "low": accuracy.low,
                "high": accuracy.high,
            }
        )
    return pd.DataFrame(rows)


def accuracy_interval(rates_frame: pd.DataFrame) -> pd.DataFrame:
    """For each expert the least and greatest accuracy over the extractors, their names, and the width."""
    wide = rates_frame.pivot_table(index="expert", columns="extractor", values="accuracy", sort=False)
    bounds = {
        "n": rates_frame.groupby("expert")["n"].first(),
        "low": wide.min(axis=1),
        "low_extractor": wide.idxmin(axis=1),
        "high": wide.max(axis=1),
        "high_extractor": wide.idxmax(axis=1),
        "width": wide.max(axis=1) - wide.min(axis=1),
    }
    return pd.DataFrame(bounds).sort_values("width", ascending=False).rename_axis("expert").reset_index()


def load_recorded(folder: Path) -> pd.DataFrame:
    """Recorded validation texts of MMLU-Pro as an audit frame, with four further columns.

    recorded (the recorded answer, null for none), recorded_source ("regex", "last_letter", "unverified"
    or "none"), instruction_tuned, subject. Rows recorded on another revision of their question are left
    out; texts of base models are cut at their `first_turn`. The token limit that stopped a text was not
    recorded: `finish_reason` is "length" if the stored text is incomplete, otherwise null.
    """
    if not folder.is_dir():
        raise SkillmoeError(f"no recorded runs at {folder}: data_dir must be the folder with answers.parquet")
    texts = pd.read_parquet(folder / "generations_validation.parquet")
    answers = pd.read_parquet(folder / "answers.parquet")
    questions = pd.read_parquet(folder / "questions.parquet")[["qid", "gold", "nopt", "category"]]
    answers = answers.astype({"model": "string", "pred_clean": "string", "pred_source": "string"})
    frame = texts.merge(answers[answers["same_item"]], on=["model", "qid"], validate="1:1")
    frame = frame.merge(questions, on="qid", validate="m:1")
    names = {"model": "expert", "nopt": "n_choices", "category": "subject", "pred_clean": "recorded"}
    frame = frame.rename(columns={**names, "pred_source": "recorded_source"})
    frame["instruction_tuned"] = ~frame["expert"].isin(BASE_MODELS)
    frame["text"] = [
        text if tuned else first_turn(text)
        for text, tuned in zip(frame["output"], frame["instruction_tuned"], strict=True)
    ]
    whole = frame["n_chars"] <= STORED_CHARACTERS
    frame["finish_reason"] = pd.Series("length", index=frame.index, dtype="string").mask(whole)
    frame["question_id"] = frame["qid"].astype("string")
    columns = ["expert", "question_id", "text", "n_choices", "gold", "finish_reason", "recorded"]
    return frame[[*columns, "recorded_source", "instruction_tuned", "subject"]]


# Wider than the extractor's rules, on purpose: any capital after "answer is" or "answer:", even one that
# starts a word, so that statements which the extractor ignores count as stated and so as a disagreement.
_STATED = re.compile(
    r"(?i:answers?\s+(?:is|are|(?:would|should|must|will)\s+be|has\s+to\s+be)|answer\W{0,3}:)[\s:*`\"$\\(\[]{0,12}"
    r"(?:(?:boxed|text)\{|[Oo]ption |[Cc]hoice )?\(?([A-J])"
    r"((?:[)\s]{0,9}(?:,|and|or|&){1,2}\s{0,9}(?:and|or)?\s{0,9}\([A-J]\))*)"
)


def stated(text: str) -> frozenset[str]:
    """Letters that the text gives as its answer, the first of each phrase: "(A) and (B)" gives A.

    A text *states one answer* if this is one letter.
    """
    return frozenset(match.group(1) for match in _STATED.finditer(text))


def _several(text: str) -> bool:
    return any(match.group(2) for match in _STATED.finditer(text))


def compare_with_recorded(frame: pd.DataFrame) -> pd.DataFrame:
    """Our answers beside the recorded ones, and the kind of every difference.

    Adds answer, rule, n_stated (letters of `stated`), lists (whether a phrase names several letters) and
    kind: "agrees" (also if both have none), or what the text states.
    """
    found = [find_choice(text, n) for text, n in zip(frame["text"], frame["n_choices"], strict=True)]
    result = frame.assign(
        answer=pd.array([each.value for each in found], dtype="string"),
        rule=pd.array([each.rule for each in found], dtype="string"),
        n_stated=[len(stated(text)) for text in frame["text"]],
        lists=[_several(text) for text in frame["text"]],
    )
    kinds = [_kind(row) for row in result.to_dict("records")]
    return result.assign(kind=pd.array(kinds, dtype="string"))


def _kind(row: Mapping[Any, Any]) -> str:
    answered, recorded = pd.notna(row["answer"]), pd.notna(row["recorded"])
    if answered == recorded and (not answered or row["answer"] == row["recorded"]):
        return AGREES
    if not recorded:
        return f"none recorded; read by rule {row['rule']}"
    if row["recorded"] not in ascii_uppercase[: row["n_choices"]]:
        return "recorded letter is beyond the choices"
    if row["recorded_source"] == "last_letter":
        return "recorded by last letter; " + ("another is stated" if answered else "none stated")
    if row["n_stated"] > 1:
        return "several stated: the last against the first"
    return "other" if answered else "recorded letter starts a word"


def agreement(compared: pd.DataFrame) -> pd.DataFrame:
    """Share of rows that agree, by group: instruction_tuned, recorded_source and what the text states.

    `states`: "one", "list" (one, but a phrase names several letters), "several" or "none".
    """
    states = compared["n_stated"].clip(upper=2).map({0: "none", 1: "one", 2: "several"})
    states = states.mask(states.eq("one") & compared["lists"], "list")
    keys = ["instruction_tuned", "recorded_source", "states"]
    groups = compared.assign(states=states, agrees=compared["kind"] == AGREES).groupby(keys)["agrees"]
    return groups.agg(n="size", n_agree="sum", agreement="mean").reset_index()


def kinds(compared: pd.DataFrame) -> pd.DataFrame:
    """How often each kind of difference occurs, by instruction_tuned and recorded_source."""
    keys = ["instruction_tuned", "recorded_source", "kind"]
    return compared.groupby(keys).size().rename("n").reset_index()
