"""Reading answers: a table of texts (each was read wrongly once), properties, and grading."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skillmoe_lib.answers import extraction, grading
from skillmoe_lib.answers.extraction import (
    Answer,
    extract_boxed,
    extract_choice,
    extract_released,
    extract_text,
    find_choice,
    first_turn,
    read,
    strip_think,
)
from skillmoe_lib.answers.grading import grade, grade_many
from skillmoe_lib.generation import FinishReason, Generation
from skillmoe_lib.questions.benchmark import Question
from skillmoe_lib.tables import STATUSES


def question(kind: str = "choice", gold: str = "B", checker: str = "{}", n_choices: int = 4) -> Question:
    choices = tuple(f"choice {i}" for i in range(n_choices)) if kind == "choice" else ()
    return Question("q1", "made", "test", "Which?", choices, gold, "logic", kind, checker)


def generation(text: str, finish_reason: FinishReason = "stop") -> Generation:
    return Generation("r1", text, finish_reason, 10, 5)


@pytest.mark.parametrize(
    ("text", "letter", "rule"),
    [
        # the strict rule: the last "answer is (X)", whatever its layout
        ("The answer is (C).", "C", "answer_is"),
        ("The answer is C. Options A) and B) are wrong.", "C", "answer_is"),
        ("The answer is (A). No, wait: the answer is (D).", "D", "answer_is"),
        ("So the answer is\n(b)", "B", "answer_is"),
        ("THE ANSWER IS (B)", "B", "answer_is"),
        ("the answer is: B", "B", "answer_is"),
        ("The answer is **B**.", "B", "answer_is"),
        ("The answer is:\n\n**(B) a heart**", "B", "answer_is"),
        ("The answer is **B. a heart**.", "B", "answer_is"),
        (r"The answer is $\boxed{B}$.", "B", "answer_is"),
        (r"The answer is \boxed{\text{(B)}}", "B", "answer_is"),
        (r"The answer is \( \boxed{A} \).", "A", "answer_is"),
        (r"The answer is \( B \).", "B", "answer_is"),
        ("The answer is option B", "B", "answer_is"),
        ("The answer is A because it is so.", "A", "answer_is"),
        ("The answer is A", "A", "answer_is"),
        ("The answer is (A) and (B).", "A", "first_of_several"),
        ("The answer is (B, D)", "B", "first_of_several"),
        ("The answer is (B).\nB and C are wrong", "B", "answer_is"),
        # named fallbacks
        ("**Answer: B**", "B", "answer_colon"),
        ("**Answer:** (B) a heart", "B", "answer_colon"),
        (r"hence \boxed{B}", "B", "boxed"),
        (r"hence \boxed{\textbf{(D)}\ 12}", "D", "boxed"),
        ("The closest option is (C).", "C", "option_is"),
        ("The correct choice for such a case is: C", "C", "option_is"),
        ("I compare them.\n\n(B)", "B", "last_line"),
        ("B", "B", "last_line"),
        ("**B.**", "B", "last_line"),
        # a tag, other phrasings, other layout
        ("<reasoning>The answer is (A).</reasoning><answer>D</answer>", "D", "answer_tag"),
        ("The answer should be (B)", "B", "answer_is"),
        ("Ans. (B)", "B", "answer_colon"),
        ("Answer = B", "B", "answer_colon"),
        ('{"why": "it fits", "answer": "B"}', "B", "answer_colon"),
        ("I would choose option (B).", "B", "option_is"),
        ("Therefore, (B) is the right choice.", "B", "is_correct"),
        ("The answer is [[B]]", "B", "answer_is"),
        ("The answer is （B）", "B", "answer_is"),
        ("The answer is (**B**)", "B", "answer_is"),
        ("The answer is <b>B</b>", "B", "answer_is"),
        ("The answer is “B”", "B", "answer_is"),
        ("The answer is b.", "B", "answer_is"),
        ("The answer is B<|im_end|>", "B", "answer_is"),
        (r"so \boxed{\text{Option B}}", "B", "boxed"),
        (r"so \boxed{\bf{B}}", "B", "boxed"),
        (r"\boxed{B} and a box for it: \boxed{}", "B", "boxed"),
        ("Option B.", "B", "last_line"),
        ("It doubles.\n\n**B) a heart**", "B", "labelled_line"),
        # passed over: denied, doubted, somebody else's, the prompt's own words
        ("If the answer is (B) then no. \\boxed{C}", "C", "boxed"),
        ("Answer: B? That melts.\n\\boxed{D}", "D", "boxed"),
        ("Answer: B is wrong, as it melts. \\boxed{D}", "D", "boxed"),
        ("My friend's answer is (B). \\boxed{D}", "D", "boxed"),
        ("The answer is (B), but it is not in the list: \\boxed{D}", "D", "boxed"),
        ('The answer is (B).\nI wrote "The answer is (X)" as asked.', "B", "answer_is"),
        ("The answer is (C), which is not affected by heat.", "C", "answer_is"),
        # none, and never a guess
        ("The answer is B cells.", None, None),
        ("The answer is C major.", None, None),
        ("The answer is C(x) = 2.", None, None),
        ("The answer is C * 2.", None, None),
        ("The answer is a dog.", None, None),
        ("(A) one\n(B) two", None, None),
        ("A is correct. B is correct.", None, None),
        (r"so \boxed{\mathbb{C}}", None, None),
        ("", None, None),
        ("I cannot answer this.", None, None),
        ("The answer is A person who lends.", None, None),
        ("The answer is I think unknown.", None, None),
        ("The answer is Bernoulli's law.", None, None),
        ("The answer is (Insufficient information).", None, None),
        ("The answer is C = 5.", None, None),
        ("The answer is E_1 + 2", None, None),
        ("The answer is not (B).", None, None),
        ("The limit (B) is not a real limit.", None, None),
        ("Option A is wrong. Option B is wrong.", None, None),
        ("A. one\nB. two\nC. three", None, None),
        (f"C. {'They met, and they wrote to each other. ' * 6}\nD. They traded.", None, None),
        (f"(C) means {'that all of them are out, or ' * 9}none.\n(D) means that some", None, None),
        (r"so \boxed{42}", None, None),
        (r"so \boxed{A, B}", None, None),
        (r"so \boxed{B", None, None),
        # beyond the choices: not an answer, and nothing else is put in its place
        ("The answer is (F).", None, None),
        ("The answer is (B). In fact the answer is (F).", None, None),
    ],
)
def test_choice(text: str, letter: str | None, rule: str | None) -> None:
    assert find_choice(text, 4) == (letter, rule)
    assert extract_choice(text, 4) == letter


@pytest.mark.parametrize(
    "after",
    ["", ".", " - Paris", " → Paris", " & no other", "…", "<|eot_id|>",
     " because it fits", " in this case",
     " which is it",
     " if I am right", " due to friction", " based on it",
     " here", ": Paris", " \\\\] so", "} so", " cells", " = 5", "'s", " + 1"],
)  # fmt: skip
def test_a_and_i_are_read_as_often_as_b(after: str) -> None:
    read_as = {letter: extract_choice(f"The answer is {letter}{after}", 10) for letter in "ABI"}
    assert len({value is None for value in read_as.values()}) == 1, read_as
    assert all(value in (None, letter) for letter, value in read_as.items())


def test_letters_depend_on_the_number_of_choices() -> None:
    assert extract_choice("The answer is (F).", 6) == "F"
    assert extract_choice("The answer is (F).", 5) is None


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The answer is C. Options A) and B) are wrong.", "B"),
        ("The answer is (C). DNA is long.", "C"),
        ("The answer is C. DNA is long.", "A"),
        ("I have no idea", None),
        ("the modulus |x|) of it", None),
        ("", None),
    ],
)
def test_released_extractor_reads_letters_anywhere(text: str, letter: str | None) -> None:
    assert extract_released(text, 4) == letter


@given(st.text(alphabet="ABCDEFI answer is()[]{}:.*\\$boxed\n,or", max_size=80), st.integers(1, 10))
def test_choice_is_always_among_the_choices(text: str, n_choices: int) -> None:
    found = find_choice(text, n_choices)
    assert (found.value is None) == (found.rule is None)
    if found.value is not None:
        assert found.value in "ABCDEFGHIJ"[:n_choices]
        assert found.value.lower() in text.lower()


@given(st.text(max_size=200), st.sampled_from("ABCD"))
def test_the_line_asked_for_decides_whatever_stands_before(before: str, letter: str) -> None:
    assert extract_choice(f"{before}\nThe answer is ({letter})", 4) == letter
    assert extract_text(f"{before}\nThe answer is \\boxed{{{letter}x}}") == f"{letter}x"


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"\boxed{5}", "5"),
        (r"\boxed{5} then \boxed{ 6 }", "6"),
        (r"\boxed{\frac{1}{\sqrt{2}}} end }", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{\left\{ x \right.}", r"\left\{ x \right."),
        (r"\fbox{7}", "7"),
        ("\\boxed{a\nb}", "a\nb"),
        (r"\boxed{1} and \boxed{2", None),
        (r"\boxed 5", None),
        (r"\boxed{5} so here it is: \boxed{}", "5"),
        (r"\boxed{1} and $\boxed{2}$", "1, 2"),
        (r"\boxed{x=1}\text{ or }\boxed{x=2}", "x=1, x=2"),
        (r"\boxed{5}, \boxed{5}", "5"),
        (r"\framebox{7}", "7"),
        ("", None),
    ],
)
def test_boxed(text: str, content: str | None) -> None:
    assert extract_boxed(text) == content


@given(st.recursive(st.text("xyz0", max_size=4), lambda inner: st.builds("a{{{}}}{}".format, inner, inner)))
def test_boxed_balances_braces(content: str) -> None:
    assert extract_boxed(f"so \\boxed{{{content}}} }} done") == (content or None)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"The answer is \boxed{olleh}.", "olleh"),
        (r"The answer is $\boxed{5}$. Check: \boxed{6}", "5"),
        (r"first \boxed{5}; the answer is 6", "5"),
        ("The answer is 3.5. So it goes.", "3.5"),
        ("The answer is **1,000**.", "1,000"),
        ("The answer is $\\frac{1}{2}$.", r"\frac{1}{2}"),
        (r"The answer is \(x^2\).", "x^2"),
        ("The answer is $18", "18"),
        ("The answer is 1. No, the answer is 2!\nBye", "2!"),
        ('The answer is "the quick fox".', "the quick fox"),
        ("Answer: 12\n", "12"),
        ("so 3 + 4\n#### 7", "7"),
        ("The answer is 6. This answer is consistent with the table.", "6"),
        ("The answer is 6. I hope this answer is helpful!", "6"),
        ("The answer is positive.", "positive"),
        ("The answer is Dr. Who. He travels.", "Dr. Who"),
        ("The answer is 5 a.m. on Monday.", "5 a.m. on Monday"),
        ("His answer is 5. The answer must be 6.", "6"),
        ("## Final Answer\n\n6", "6"),
        ("Ans: 6", "6"),
        ("<answer>Ann</answer>", "Ann"),
        ("**6**", "6"),
        ("$6$", "6"),
        ("#### Step 2\nWe add.\n#### Result\nIt is six.", None),
        ("#### 6 (dollars)", "6 (dollars)"),
        ("The answer is 6</s>", "6"),
        ("The answer is", None),
        ("I do not know", None),
        ("", None),
    ],
)
def test_text(text: str, value: str | None) -> None:
    assert extract_text(text) == value


@pytest.mark.parametrize(
    ("text", "reasoning", "after"),
    [
        ("The answer is (A)", False, "The answer is (A)"),
        ("<think>no (A)</think>The answer is (B)", False, "The answer is (B)"),
        ("no (A)</think>The answer is (B)", True, "The answer is (B)"),
        ("a</think>b</think>c", True, "c"),
        ("[THINK]no (A)[/THINK]The answer is (B)", False, "The answer is (B)"),
        ("<thinking>The answer is (A)", False, None),
        ("<think>The answer is (A)", False, None),
        ("The answer is (A)", True, None),
        ("a</think>b<think>The answer is (A)", True, None),
    ],
)
def test_strip_think(text: str, reasoning: bool, after: str | None) -> None:
    assert strip_think(text, reasoning=reasoning) == after


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("The answer is (A).\n\nQuestion: another? The answer is (B).", "The answer is (A)."),
        ("The answer is (A).\n\nQ: another?", "The answer is (A)."),
        ("The answer is (A).\n### Question 2:\nmore", "The answer is (A)."),
        ("The answer is (A).\n**Question:** more", "The answer is (A)."),
        ("The answer is (A).\nQuestion", "The answer is (A)."),
        ("\nQuestion: restated\nThe answer is (A).", "\nQuestion: restated\nThe answer is (A)."),
        ("The question: which? (A)", "The question: which? (A)"),
        ("Quick thought.\nQuarks are small.", "Quick thought.\nQuarks are small."),
    ],
)
def test_first_turn(text: str, first: str) -> None:
    assert first_turn(text) == first


@pytest.mark.parametrize(
    ("text", "finish_reason", "options", "expected"),
    [
        ("The answer is (B)", "stop", {}, Answer("B", "answered", "answer_is")),
        ("The answer is (B)", "length", {}, Answer("B", "answered", "answer_is")),
        ("The answer is B", "stop", {}, Answer("B", "answered", "answer_is")),
        ("The answer is B", "length", {}, Answer(None, "cut")),
        ("The answer is B. It is", "length", {}, Answer("B", "answered", "answer_is")),
        ("I wonder", "length", {}, Answer(None, "cut")),
        ("I wonder", "stop", {}, Answer(None, "unparsed")),
        ("", "stop", {}, Answer(None, "unparsed")),
        ("", "not_run", {}, Answer(None, "not_run")),
        ("", "overflow", {}, Answer(None, "overflow")),
        ("perhaps the answer is (A), or", "length", {"reasoning": True}, Answer(None, "cut")),
        ("(A)?</think>Answer: (B)", "stop", {"reasoning": True}, Answer("B", "answered", "answer_colon")),
        (
            "The answer is (B)\n\nQuestion: x\nThe answer is (C)",
            "length",
            {"plain": True},
            Answer("B", "answered", "answer_is"),
        ),
        (
            "The answer is B\n\nQuestion: x\nThe answer is (C)",
            "length",
            {"plain": True},
            Answer("B", "answered", "answer_is"),
        ),
    ],
)
def test_read(text: str, finish_reason: FinishReason, options: dict[str, bool], expected: Answer) -> None:
    assert read(question(), generation(text, finish_reason), **options) == expected


@pytest.mark.parametrize(
    ("text", "finish_reason", "expected"),
    [
        (r"The answer is \boxed{12}", "length", Answer("12", "answered", "answer_is_boxed")),
        (r"The answer is \boxed{12", "length", Answer(None, "cut")),
        ("The answer is 12", "length", Answer(None, "cut")),
        ("The answer is 12", "stop", Answer("12", "answered", "answer_is")),
        ("The answer is 12.\nCheck: 5 + 7 = 12", "length", Answer("12", "answered", "answer_is")),
    ],
)
@pytest.mark.parametrize("kind", ["math", "text"])
def test_read_free_answers(kind: str, text: str, finish_reason: FinishReason, expected: Answer) -> None:
    assert read(question(kind, "12"), generation(text, finish_reason)) == expected


@given(
    st.text(max_size=60), st.sampled_from(["stop", "length", "not_run"]), st.sampled_from(["choice", "text"])
)
def test_an_answer_has_a_value_exactly_if_answered(text: str, finish_reason: FinishReason, kind: str) -> None:
    answer = read(question(kind, "B"), generation(text, finish_reason))
    assert answer.status in STATUSES
    assert (answer.value is not None) == (answer.status == "answered") == (answer.extractor is not None)


@pytest.mark.parametrize(
    "text",
    [
        "answer is" + " " * 50_000,
        "answer is" + "*" * 50_000,
        "\n" * 50_000,
        "answer is (A), " * 5_000,
        "\\boxed{" * 20_000,
        "the correct answer " * 5_000,
        "<think>" * 20_000,
        "<answer>" * 20_000,
        "\n(A) " * 20_000,
        "1 cm/" * 10_000,
    ],
    ids=lambda text: repr(text[:16]),
)
def test_degenerate_texts_take_no_time(text: str) -> None:
    started = time.process_time()
    read(question(), generation(text), plain=True)
    read(question("text"), generation(text), plain=True)
    extract_released(text, 10)
    assert time.process_time() - started < 2


def test_grade_by_kind() -> None:
    found = Answer("B", "answered", "answer_is")
    assert grade(question(gold="B"), found)
    assert not grade(question(gold="C"), found)
    pairs = [
        (question(gold="B"), found),
        (question("math", "1/2"), Answer("0.5", "answered")),
        (question("math", "1/2"), Answer("2", "answered")),
        (question("text", "Ab c"), Answer(" aB  C", "answered")),
        (question("text", "ab c"), Answer("abc", "answered")),
        (question("text", "50%"), Answer(r"50\%", "answered")),
        (question("math", r"x^2+2x+1"), Answer("(x+1)^2", "answered")),
        (question(gold="B"), Answer(None, "cut")),
        (question("math", "1"), Answer(None, "unparsed")),
        (question("text", "a"), Answer(None, "not_run")),
    ]
    assert grade_many(pairs) == [True, True, False, True, False, True, True, False, False, False]
    assert grade_many([]) == []


def test_grade_asks_the_questions_own_checker(monkeypatch: pytest.MonkeyPatch) -> None:

    asked: list[tuple[str, str]] = []

    def checker_correct(checker: str, answer: str) -> bool:
        asked.append((checker, answer))
        return answer == "other way"

    monkeypatch.setattr(grading, "checker_correct", checker_correct)
    checked = question("text", "one way", checker='{"family": "made"}')
    assert grade(checked, Answer("One way", "answered"))
    assert not asked, "an equal answer needs no checker"
    assert grade(checked, Answer("other way", "answered"))
    assert not grade(checked, Answer("no way", "answered"))
    assert not grade(checked, Answer(None, "cut"))
    assert [answer for _, answer in asked] == ["other way", "no way"]


def test_rules_have_names_of_their_own() -> None:
    for rules in (extraction.CHOICE_RULES, extraction.TEXT_RULES):
        names = [name for name, _ in rules]
        assert len(set(names)) == len(names)
    assert extraction.CHOICE_RULES[0][0] == extraction.STRICT
