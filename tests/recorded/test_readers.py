"""Each format on small files in its exact layout: fields as published, questions and answers made up here."""

import json
from pathlib import Path

import pandas as pd
import pytest
from archives import zipped, zipped_by_zstandard

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.recorded import (
    Options,
    Recorded,
    embedllm,
    helm,
    inspect_log,
    llmrouterbench,
    lm_eval,
    mmlu_pro,
    plain,
    routellm,
    routerarena,
)

ANSWERS = ("question_id", "expert", "sample", "answer", "status", "correct")
COSTS = ("prompt_tokens", "output_tokens", "money", "finish_reason")


def cells(found: Recorded, columns: tuple[str, ...] = ANSWERS) -> list[tuple]:
    table = found.answers[list(columns)].astype(object)
    return [tuple(None if pd.isna(cell) else cell for cell in line) for line in table.to_numpy()]


def about(found: Recorded, question_id: str) -> dict:
    whole = found.questions.astype(object).where(found.questions.notna(), None).set_index("question_id")
    return whole.loc[question_id].to_dict()


def write_json(path: Path, content) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_lines(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def has(found: Recorded, line: str) -> bool:
    return any(line in said for said in found.missing)


# --- lm-evaluation-harness ---------------------------------------------------------------------------


def sample(doc_id: int, answer: str, right: float, **other) -> dict:
    text = f"Two and two. The answer is {answer}."
    return {
        "doc_id": doc_id,
        "doc": {"question": f"What is 2 + {doc_id}?", "answer": "so it is #### 4"},
        "target": "so it is #### 4",
        "arguments": {"gen_args_0": {"arg_0": "Q: few shots\nQ: What?", "arg_1": {"until": ["Q:"]}}},
        "resps": [[text]],
        "filtered_resps": [answer],
        "filter": "strict-match",
        "metrics": ["exact_match"],
        "doc_hash": "d",
        "prompt_hash": "p",
        "target_hash": "t",
        "exact_match": right,
        **other,
    }


NAME = "samples_gsm8k_2026-01-02T03-04-05.678901.jsonl"


def test_lm_eval_reads_one_filter_of_a_generating_task(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "org__model-7b" / NAME,
        [
            sample(0, "4", 1.0),
            sample(1, "[invalid]", 0.0),
            sample(0, "2", 0.0, filter="flexible-extract"),
            sample(1, "5", 1.0, filter="flexible-extract"),
        ],
    )
    found = lm_eval.read(path)
    assert cells(found) == [
        ("gsm8k/0", "org__model-7b", 0, "4", "answered", True),
        ("gsm8k/1", "org__model-7b", 0, None, "unparsed", False),
    ]
    assert cells(found, COSTS) == [(None, None, None, None)] * 2
    assert found.answers["text"][0] == "Two and two. The answer is 4."
    assert about(found, "gsm8k/0")["text"] == "What is 2 + 0?"
    assert about(found, "gsm8k/0")["benchmark"] == "gsm8k"
    assert has(found, "filters: strict-match, flexible-extract of gsm8k: strict-match is read")
    assert has(found, "'org__model-7b' is the folder's name")
    for line in ("prompt tokens: not recorded", "finish reasons: not recorded", "repeats: one answer"):
        assert has(found, line)
    other = lm_eval.read(path, Options(filter="flexible-extract", expert="mine"))
    assert cells(other)[0] == ("gsm8k/0", "mine", 0, "2", "answered", False)
    with pytest.raises(
        SkillmoeError, match=r"unknown filter of .*: it must be one of flexible-extract, strict"
    ):
        lm_eval.read(path, Options(filter="none"))


def test_lm_eval_takes_the_models_name_from_the_results_beside_it(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "out" / NAME, [sample(0, "4", 1.0)])
    write_json(tmp_path / "out" / "results_2026.json", {"model_name": "org/model-7b", "results": {}})
    assert cells(lm_eval.read(path))[0][1] == "org/model-7b"


def test_lm_eval_reads_the_most_probable_choice(tmp_path: Path) -> None:
    row = {
        "doc_id": 3,
        "doc": {"question": "Which is a metal?", "choices": {"text": ["wood", "iron"], "label": ["A", "B"]}},
        "target": "1",
        "arguments": {"gen_args_0": {"arg_0": "Which?", "arg_1": " wood"}},
        "resps": [[["-5.5", "False"]], [["-0.5", "True"]]],
        "filtered_resps": [["-5.5", "False"], ["-0.5", "True"]],
        "filter": "none",
        "metrics": ["acc", "acc_norm"],
        "acc": 1.0,
        "acc_norm": 0.0,
    }
    path = write_lines(tmp_path / "m" / "samples_arc_easy_2026-01-02T03-04-05.1.jsonl", [row])
    found = lm_eval.read(path)
    assert cells(found) == [("arc_easy/3", "m", 0, "B", "answered", True)]
    assert found.answers["text"].isna().all()
    known = about(found, "arc_easy/3")
    assert (known["gold"], known["kind"], json.loads(known["choices"])) == ("B", "choice", ["wood", "iron"])
    assert cells(lm_eval.read(path, Options(metric="acc_norm")))[0][-1] is False
    with pytest.raises(SkillmoeError, match=r"unknown metric of .* 'bleu': it must be one of acc, acc_norm"):
        lm_eval.read(path, Options(metric="bleu"))


def test_lm_eval_asks_for_the_metric_if_none_is_usual(tmp_path: Path) -> None:
    row = sample(0, "4", 1.0, metrics=["bleu", "rouge"], bleu=0.1, rouge=0.2)
    path = write_lines(tmp_path / "m" / NAME, [row])
    with pytest.raises(SkillmoeError, match="name the metric that decides with --metric, one of bleu, rouge"):
        lm_eval.read(path)


def test_lm_eval_says_that_repeats_were_scored_together(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "m" / NAME, [sample(0, "4", 1.0, resps=[["It is 4.", "It is 5.", "4"]])])
    found = lm_eval.read(path)
    assert found.answers["text"].tolist() == ["It is 4."]
    assert has(found, "repeats of gsm8k: 2 further texts were scored together; the first is kept")


# --- inspect_ai --------------------------------------------------------------------------------------


def inspect_files(**of_samples) -> dict[str, str]:
    header = {
        "version": 2,
        "status": "success",
        "eval": {"task": "org/arc", "model": "openai/gpt-x", "dataset": {"name": "arc", "samples": 2}},
        "plan": {},
        "results": {},
    }
    files = {"header.json": json.dumps(header), "summaries.json": "[]", "reductions.json": "[]"}
    for epoch, (letter, value, reason) in enumerate([("B", "C", "stop"), ("A", "I", "max_tokens")], 1):
        made = {
            "id": "q7",
            "epoch": epoch,
            "input": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Which is a metal?"},
            ],
            "choices": ["wood", "iron"],
            "target": ["B"],
            "messages": [],
            "output": {
                "model": "gpt-x",
                "completion": f"ANSWER: {letter}",
                "choices": [
                    {
                        "message": {
                            "role": "assistant",
                            "content": [{"type": "text", "text": f"ANSWER: {letter}"}],
                        },
                        "stop_reason": reason,
                    }
                ],
                "usage": {
                    "input_tokens": 20,
                    "output_tokens": epoch,
                    "total_tokens": 20 + epoch,
                    "total_cost": 0.5,
                },
                "time": 1.5,
            },
            "scores": {"choice": {"value": value, "answer": letter, "explanation": "ANSWER"}},
            **of_samples,
        }
        files[f"samples/q7_epoch_{epoch}.json"] = json.dumps(made)
    return files


@pytest.mark.parametrize("write", [zipped, zipped_by_zstandard])
def test_inspect_log(tmp_path: Path, write) -> None:
    found = inspect_log.read(write(tmp_path / "x.eval", inspect_files()))
    assert cells(found) == [
        ("arc/q7", "openai/gpt-x", 0, "B", "answered", True),
        ("arc/q7", "openai/gpt-x", 1, "A", "answered", False),
    ]
    assert cells(found, COSTS) == [(20, 1, 0.5, "stop"), (20, 2, 0.5, "length")]
    known = about(found, "arc/q7")
    assert (known["text"], known["gold"], known["kind"]) == ("Which is a metal?", "B", "choice")
    assert json.loads(known["choices"]) == ["wood", "iron"]
    assert not has(found, "repeats:")
    assert not has(found, "tokens")


def test_inspect_log_of_a_run_that_crashed(tmp_path: Path) -> None:
    files = inspect_files()
    start = json.dumps({"version": 2, "eval": json.loads(files.pop("header.json"))["eval"], "plan": {}})
    del files["summaries.json"], files["samples/q7_epoch_2.json"]
    found = inspect_log.read(zipped(tmp_path / "x.eval", {"_journal/start.json": start, **files}))
    assert len(found.answers) == 1
    assert has(found, "status: the run of openai/gpt-x on arc ended as 'crashed'")


def test_inspect_log_with_errors_and_several_scorers(tmp_path: Path) -> None:
    failed = inspect_files(error={"message": "rate limit"}, scores=None)
    found = inspect_log.read(zipped(tmp_path / "x.eval", failed))
    assert {line[-2:] for line in cells(found)} == {("not_run", False)}
    both = {"match": {"value": 1, "answer": "B"}, "judge": {"value": 0.5, "answer": "B"}}
    path = zipped(tmp_path / "y.eval", inspect_files(scores=both))
    with pytest.raises(
        SkillmoeError, match="name the scorer that decides with --metric, one of judge, match"
    ):
        inspect_log.read(path)
    assert {line[-1] for line in cells(inspect_log.read(path, Options(metric="match")))} == {True}
    with pytest.raises(
        SkillmoeError, match=r"it has no header.json with eval, so it is no log of inspect_ai"
    ):
        inspect_log.read(zipped(tmp_path / "z.eval", {"samples/1_epoch_1.json": "{}"}))


# --- MMLU-Pro ----------------------------------------------------------------------------------------


def entry(question_id: int, pred: str | None, text: str, name: str = "model_outputs", **other) -> dict:
    return {
        "question_id": question_id,
        "question": f"Question {question_id}?",
        "options": ["one", "two", "three", "N/A"],
        "answer": "B",
        "answer_index": 1,
        "cot_content": "",
        "category": "math",
        "src": "made-up",
        "pred": pred,
        name: text,
        **other,
    }


def mmlu_zip(path: Path, entries: list[dict]) -> Path:
    name = f"eval_results/{path.stem}.json"
    return zipped(path, {name: json.dumps(entries), f"__MACOSX/eval_results/._{path.stem}.json": b"\x00\x05"})


@pytest.mark.parametrize("name", mmlu_pro.TEXTS)
def test_mmlu_pro_reads_each_name_of_the_text(tmp_path: Path, name: str) -> None:
    entries = [
        entry(70, "B", "The answer is (B).", name),
        entry(71, None, "I do not know.", name),
        entry(72, "J", "No letter is written here", name),
    ]
    found = mmlu_pro.read(mmlu_zip(tmp_path / "model_outputs_Yi-6B-Chat_5shots.zip", entries))
    assert cells(found) == [
        ("70", "Yi-6B-Chat", 0, "B", "answered", True),
        ("71", "Yi-6B-Chat", 0, None, "unparsed", False),
        ("72", "Yi-6B-Chat", 0, None, "unparsed", False),
    ]
    assert found.answers["text"][0] == "The answer is (B)."
    assert has(found, "guesses: 1 recorded letters stand nowhere in the text; taken as no answer")
    known = about(found, "70")
    assert json.loads(known["choices"]) == ["one", "two", "three"]
    assert (known["gold"], known["subject"], known["kind"]) == ("B", "math", "choice")


def test_mmlu_pro_reads_a_folder_of_subjects_and_plain_json(tmp_path: Path) -> None:
    parts = {
        "a/math_result.json": [entry(1, "B", "B")],
        "a/law_result.json": [entry(2, "A", "A", category="law")],
    }
    files = {name: json.dumps(part) for name, part in parts.items()} | {"a/math_summary.json": '{"acc": 1}'}
    found = mmlu_pro.read(zipped(tmp_path / "gpt-x.zip", files), Options(expert="gpt-x"))
    assert [line[:2] for line in cells(found)] == [("1", "gpt-x"), ("2", "gpt-x")]
    assert len(mmlu_pro.read(write_json(tmp_path / "m.json", [entry(1, "B", "B")])).answers) == 1
    with pytest.raises(SkillmoeError, match="row 1 needs question_id, question, answer, pred"):
        mmlu_pro.read(write_json(tmp_path / "m.json", [{"question_id": 1}]))


# --- LLMRouterBench ----------------------------------------------------------------------------------


def test_llmrouterbench(tmp_path: Path) -> None:
    records = [
        {
            "index": 1, "origin_query": "What is 1 + 1?", "prompt": "Solve.",
            "prompt_tokens": 9, "completion_tokens": 4, "cost": 0.25, "score": 1.0,
            "prediction": "2", "ground_truth": 2,
            "raw_output": "So \\boxed{2}", "extra_fields": {},
        },
        {
            "index": 2, "origin_query": "Pick.", "prompt": "Pick.", "prompt_tokens": 3,
            "completion_tokens": 1, "cost": 0.0, "score": 0.0, "prediction": "(C)", "ground_truth": "B",
            "raw_output": "", "extra_fields": {},
        },
    ]  # fmt: skip
    whole = {
        "performance": 0.5, "time_taken": 1.0, "prompt_tokens": 12, "completion_tokens": 5, "cost": 0.25,
        "counts": 2, "model_name": "m-7b", "dataset_name": "aime", "split": "test", "demo": False,
        "extra_metrics": {}, "data_fingerprint": "f", "records": records,
    }  # fmt: skip
    found = llmrouterbench.read(write_json(tmp_path / "aime" / "x.json", whole))
    assert cells(found) == [
        ("aime/1", "m-7b", 0, "2", "answered", True),
        ("aime/2", "m-7b", 0, "C", "answered", False),
    ]
    assert cells(found, COSTS) == [(9, 4, 0.25, None), (3, 1, 0.0, None)]
    assert (about(found, "aime/1")["kind"], about(found, "aime/1")["split"]) == ("math", "test")
    assert has(found, "validation split: not recorded")
    with pytest.raises(SkillmoeError, match="it must hold an object with records"):
        llmrouterbench.read(write_json(tmp_path / "y.json", [1]))


# --- RouterArena -------------------------------------------------------------------------------------


def test_routerarena_cached_results(tmp_path: Path) -> None:
    def line(index: str, text: str | None, gold: str, score: float | None, metric: str, **other) -> dict:
        return {
            "global_index": index, "question": "Question?", "llm_selected": "haiku", "generated_answer": text,
            "token_usage": {"input_tokens": 30, "output_tokens": 6, "total_tokens": 36}, "success": True,
            "provider": "p", "error": None,
            "evaluation_result": {
                "extracted_answer": text, "ground_truth": gold, "score": score, "metric": metric,
                "inference_cost": 0.002,
            },
            "run_number": 1, **other,
        }  # fmt: skip

    path = write_lines(
        tmp_path / "haiku.jsonl",
        [
            line("ArcMMLU_12", "\\boxed{C}\n\nBecause.", "C", 1.0, "mcq_accuracy"),
            line("AIME_3", "So it is \\boxed{{84}}.", "49", 0.0, "math_metric"),
            line("AIME_4", None, "49", None, "math_metric", success=False, error="timeout"),
        ],
    )
    found = routerarena.read(path)
    assert cells(found) == [
        ("ArcMMLU_12", "haiku", 0, "C", "answered", True),
        ("AIME_3", "haiku", 0, "{84}", "answered", False),
        ("AIME_4", "haiku", 0, None, "not_run", False),
    ]
    assert cells(found, COSTS)[0] == (30, 6, 0.002, None)
    assert [about(found, name)["subject"] for name in ("ArcMMLU_12", "AIME_3")] == ["ArcMMLU", "AIME"]
    assert has(found, "failures: 1 calls failed")


def test_routerarena_predictions_of_a_router(tmp_path: Path) -> None:
    rows = [
        {
            "global index": f"A_{i}", "prompt": "P?", "prediction": model, "cost": 0.5, "accuracy": right,
            "generated_result": {"generated_answer": "B", "token_usage": {"input_tokens": 1}},
        }
        for i, (model, right) in enumerate([("small", 1.0), ("large", 0.0)])
    ]  # fmt: skip
    found = routerarena.read(write_lines(tmp_path / "router.jsonl", rows))
    assert [line[1:] for line in cells(found)] == [
        ("small", 0, None, "answered", True),
        ("large", 0, None, "not_run", False),
        ("small", 0, None, "not_run", False),
        ("large", 0, None, "answered", False),
    ]
    assert has(found, "question sets: 2 of 2 experts lack some of the 2 questions")


# --- HELM --------------------------------------------------------------------------------------------


def helm_run(folder: Path, texts: list[str], *, method: str = "multiple_choice_joint", **of_requests) -> Path:
    states, stats = [], []
    for i, text in enumerate(texts):
        instance = {
            "input": {"text": f"Question {i}?"},
            "references": [
                {"output": {"text": "wood"}, "tags": []},
                {"output": {"text": "iron"}, "tags": ["correct"]},
            ],
            "split": "test",
            "id": f"id{i}",
        }
        state = {
            "instance": instance, "train_trial_index": 0, "output_mapping": {"A": "wood", "B": "iron"},
            "request": {"model": "org/m", "prompt": "...", "temperature": 0.0},
            "result": {
                "success": True,
                "completions": [{"text": text, "logprob": 0, "finish_reason": {"reason": "stop"}}],
                "cached": True, "request_time": 0.5,
            },
            **of_requests,
        }  # fmt: skip
        states.append(state)
        means = {"exact_match": float(text.strip() == "B"), "num_prompt_tokens": 71, "num_output_tokens": i}
        listed = [
            {"name": {"name": name, "split": "test"}, "count": 1, "sum": value}
            for name, value in means.items()
        ]
        listed.append({"name": {"name": "training_co2_cost", "split": "test"}, "count": 0, "sum": 0})
        stats.append({"instance_id": f"id{i}", "train_trial_index": 0, "stats": listed})
    spec = {"adapter_spec": {"method": method, "model": "org/m"}, "request_states": states}
    write_json(folder / "per_instance_stats.json", stats)
    return write_json(folder / "scenario_state.json", spec)


RUN = "mmlu:subject=anatomy,method=multiple_choice_joint,model=org_m"


def test_helm_pairs_what_was_said_with_its_scores(tmp_path: Path) -> None:
    path = helm_run(tmp_path / RUN, [" B", "A"])
    name = "mmlu:subject=anatomy,method=multiple_choice_joint"
    found = helm.read(path)
    assert cells(found) == [
        (f"{name}/id0", "org/m", 0, "B", "answered", True),
        (f"{name}/id1", "org/m", 0, "A", "answered", False),
    ]
    assert cells(found, COSTS) == [(71, None, None, "stop"), (71, 1, None, "stop")]
    known = about(found, f"{name}/id0")
    assert (known["gold"], known["split"], known["benchmark"]) == ("B", "test", "mmlu")
    assert json.loads(known["choices"]) == ["wood", "iron"]
    assert has(found, f"score: exact_match of {name} decides")
    assert cells(helm.read(tmp_path / RUN)) == cells(found)
    with pytest.raises(SkillmoeError, match=r"unknown score of per_instance_stats.json 'f1'"):
        helm.read(path, Options(metric="f1"))


def test_helm_compares_probabilities_and_changes_instances(tmp_path: Path) -> None:
    found = helm.read(helm_run(tmp_path / "a" / RUN, ["B"], reference_index=1))
    assert [line[3:] for line in cells(found)] == [(None, "answered", True)]
    path = helm_run(tmp_path / "b" / RUN, ["B", "A"])
    state, stats = (json.loads((path.parent / name).read_text()) for name in (helm._STATE, helm._STATS))
    changed = json.loads(json.dumps(state["request_states"][0]))
    changed["instance"]["perturbation"] = {"name": "typos"}
    state["request_states"].append(changed)
    stats.append({**stats[0], "perturbation": {"name": "typos"}, "stats": []})
    write_json(path, state)
    write_json(path.parent / helm._STATS, stats)
    found = helm.read(path)
    assert len(found.answers) == 2
    assert has(found, "perturbations: 1 changed instances of mmlu:subject=anatomy")


def test_helm_needs_both_files(tmp_path: Path) -> None:
    path = helm_run(tmp_path / RUN, ["B"])
    (path.parent / helm._STATS).unlink()
    with pytest.raises(SkillmoeError, match=r"cannot read per_instance_stats\.json: No such file"):
        helm.read(path)


# --- EmbedLLM and RouteLLM ---------------------------------------------------------------------------


def test_embedllm(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    path.write_text(
        "prompt_id,model_id,category_id,label,prompt,model_name,category\n"
        '983,0,18,1,"Which, then?",org/a,mmlu\n983,1,18,0,"Which, then?",org/b,mmlu\n'
    )
    found = embedllm.read(path)
    assert cells(found) == [
        ("983", "org/a", 0, None, "answered", True),
        ("983", "org/b", 0, None, "answered", False),
    ]
    assert about(found, "983")["subject"] == "mmlu"
    for line in ("texts: not recorded", "answers: not recorded", "gold answers: not recorded"):
        assert has(found, line)
    assert found.can_answer().set_index("what").loc["votes of experts", "exact"] == False  # noqa: E712


def test_routellm(tmp_path: Path) -> None:
    path = tmp_path / "mmlu_astronomy.csv"
    path.write_text('prompt,mixtral,gpt-4\n"Why?\nA. So\nB. No\nAnswer:",True,False\n"How?",True,True\n')
    found = routellm.read(path)
    assert [line[:2] + line[4:] for line in cells(found)] == [
        ("mmlu_astronomy/00000", "mixtral", "answered", True),
        ("mmlu_astronomy/00000", "gpt-4", "answered", False),
        ("mmlu_astronomy/00001", "mixtral", "answered", True),
        ("mmlu_astronomy/00001", "gpt-4", "answered", True),
    ]
    path = tmp_path / "gsm8k_responses.csv"
    path.write_text(
        'prompt,mixtral,gpt-4,mixtral_response,gpt-4_response\n"2+2?",False,True,"#### 5","#### 4"\n'
    )
    assert [line[1:4] for line in cells(routellm.read(path))] == [("mixtral", 0, "5"), ("gpt-4", 0, "4")]
    path.write_text("prompt,mixtral\nWhy?,maybe\n")
    with pytest.raises(SkillmoeError, match="row 1: mixtral must be True or False, got 'maybe'"):
        routellm.read(path)


# --- a table of your own -----------------------------------------------------------------------------

TABLE = [
    {"qid": 7, "model": "a", "said": "B", "in": 10, "out": 2, "usd": 0.01, "keep": "yes"},
    {"qid": 7, "model": "b", "said": "(a)", "in": 10, "out": None, "usd": None, "keep": "yes"},
    {"qid": 8, "model": "a", "said": None, "in": 11, "out": 3, "usd": 0.02, "keep": "yes"},
    {"qid": 8, "model": "b", "said": "C", "in": 11, "out": 3, "usd": 0.02, "keep": "no"},
]
COLUMNS = {
    "question_id": "qid", "expert": "model", "answer": "said", "prompt_tokens": "in", "output_tokens": "out",
    "money": "usd",
}  # fmt: skip


def write_table(path: Path, rows: list[dict]) -> Path:
    frame = pd.DataFrame(rows).convert_dtypes()
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        write_lines(path, rows)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_plain_table_with_columns_of_your_own(tmp_path: Path, suffix: str) -> None:
    path = write_table(tmp_path / f"answers{suffix}", TABLE)
    about_questions = [
        {
            "qid": 7,
            "question": "Which?",
            "choices": json.dumps(["x", "y", "z"]),
            "gold": "B",
            "split": "validation",
        },
        {"qid": 8, "question": "What?", "choices": json.dumps(["x", "y", "z"]), "gold": "C", "split": "test"},
    ]
    listed = write_table(tmp_path / f"questions{suffix}", about_questions)
    found = plain.read(path, Options(columns=COLUMNS, questions=listed, where={"keep": "yes"}))
    assert cells(found) == [
        ("7", "a", 0, "B", "answered", True),
        ("7", "b", 0, "A", "answered", False),
        ("8", "a", 0, None, "unparsed", False),
        ("8", "b", 0, None, "not_run", False),
    ]
    assert cells(found, COSTS)[:2] == [(10, 2, 0.01, None), (10, None, None, None)]
    assert found.questions["split"].tolist() == ["validation", "test"]
    assert has(found, "texts: not recorded")
    assert has(found, "output tokens: missing for 1 of 3 answers")


def test_plain_table_of_texts_is_read_and_graded(tmp_path: Path) -> None:
    rows = [
        {"question_id": "m", "expert": "a", "text": "So the answer is \\boxed{0.5}.", "gold": "1/2"},
        {"question_id": "m", "expert": "b", "text": "<b>The answer is 7</b>", "gold": "1/2"},
    ]
    path = write_table(tmp_path / "x.jsonl", rows)
    found = plain.read(path)
    assert cells(found) == [("m", "a", 0, "0.5", "answered", True), ("m", "b", 0, "7", "answered", False)]
    assert found.answers["text"][1] == "<b>The answer is 7</b>"


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"qid": "question_id"}, r"unknown field .* 'qid': it must be one of answer, benchmark"),
        ({}, r"has no column 'question_id': name yours with --column question_id=\.\.\., one of in, keep"),
        ({"question_id": "qid"}, "has no column 'expert': name yours with --column expert="),
        (
            {"question_id": "qid", "expert": "model"},
            "needs a column answer, text or correct; it has in, keep",
        ),
        (
            {**COLUMNS, "gold": "right"},
            r"unknown column of .* \(for gold\) 'right': it must be one of in, keep",
        ),
        (COLUMNS, "'a' answered '7' right is not known: it needs a column with correct, or gold"),
    ],
)
def test_a_column_that_is_not_there_is_named(tmp_path: Path, columns: dict, reason: str) -> None:
    path = write_table(tmp_path / "x.csv", TABLE)
    with pytest.raises(SkillmoeError, match=reason):
        plain.read(path, Options(columns=columns))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (
            {"correct": "perhaps"},
            "row 1 of x.jsonl: a score must be true, false or from 0 to 1; got 'perhaps'",
        ),
        ({"correct": 4.5}, "a score must be true, false or from 0 to 1; got '4.5'"),
        ({"expert": ""}, "row 1 of x.jsonl: its question_id or expert is empty"),
        (
            {"kind": "essay"},
            r"unknown kind \(row 1 of x.jsonl\) 'essay': it must be one of choice, math, text",
        ),
        ({"status": "ok"}, r"unknown status \(row 1 of x.jsonl\) 'ok'"),
        ({"choices": "one, two"}, "row 1 of x.jsonl: column 'choices' must hold a list of choices"),
    ],
)
def test_a_cell_that_cannot_be_read_is_named(tmp_path: Path, row: dict, reason: str) -> None:
    whole = {"question_id": "q", "expert": "a", "answer": "B", "gold": "B", **row}
    with pytest.raises(SkillmoeError, match=reason):
        plain.read(write_table(tmp_path / "x.jsonl", [whole]))


def test_where_and_questions_must_fit(tmp_path: Path) -> None:
    path = write_table(tmp_path / "x.csv", TABLE)
    with pytest.raises(SkillmoeError, match=r"unknown column of x.csv \(for --where\) 'same'"):
        plain.read(path, Options(columns=COLUMNS, where={"same": "true"}))
    with pytest.raises(SkillmoeError, match=r"x.csv has no row where keep is 'maybe'"):
        plain.read(path, Options(columns=COLUMNS, where={"keep": "maybe"}))
    one = {"qid": 7, "gold": "B"}
    with pytest.raises(SkillmoeError, match=r"row 3 of x.csv: question '8' is not in q.csv"):
        plain.read(path, Options(columns=COLUMNS, questions=write_table(tmp_path / "q.csv", [one])))
    with pytest.raises(SkillmoeError, match=r"cannot read r.csv: question '7' occurs twice"):
        plain.read(path, Options(columns=COLUMNS, questions=write_table(tmp_path / "r.csv", [one, one])))
