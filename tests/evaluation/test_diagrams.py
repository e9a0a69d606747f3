"""What the diagrams draw: widths and places, not pixels."""

import pandas as pd
import pytest

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation import diagrams, figures

FLOW = pd.DataFrame(
    [("sums", "ann", 6.0), ("sums", "bob", 2.0), ("logic", "bob", 3.0), ("rare", "cid", 1.0)],
    columns=["skill", "expert", "slots"],
)


def words(chart):
    return [text.get_text() for text in chart.axes[0].texts]


def test_bands_are_as_wide_as_their_slots():
    (axis,) = diagrams.recruitment_flow(FLOW).axes
    assert words(axis.figure) == ["sums  8", "logic  3", "rare  1", "6  ann", "5  bob", "1  cid"]
    widths = sorted(
        round(abs(float(p.get_path().vertices[-2][1] - p.get_path().vertices[0][1])), 6) for p in axis.patches
    )
    assert widths == [1, 2, 3, 6]
    # Never colour alone: the experts' bands differ in hatch too.
    assert len({patch.get_hatch() for patch in axis.patches}) == 3
    # The blocks of one side do not overlap, and the bands of one skill lie one below the other.
    starts = sorted(float(p.get_path().vertices[0][1]) for p in axis.patches)
    assert len(set(starts)) == 4


def test_rare_skills_share_a_line():
    chart = diagrams.recruitment_flow(FLOW, n_skills=2)
    assert words(chart)[:3] == ["sums  8", "logic  3", "all other skills  1"]
    with pytest.raises(SkillmoeError, match="no expert was recruited"):
        diagrams.recruitment_flow(FLOW.assign(slots=0.0))


def batches(**changes: object) -> pd.DataFrame:
    """Three loads, the third after a pause of an hour; `started_at` is when the model was loaded."""
    frame = pd.DataFrame(
        {
            "model": ["folder:data/pocket/sums@1", "hub/letters", "folder:data/pocket/sums@1"],
            "engine": "vllm",
            "started_at": [f"2026-01-02T0{time}+00:00" for time in ("3:00:02", "3:00:12", "4:00:12")],
            "load_s": [2.0, 1.0, 2.0],
            "generate_s": [8.0, 3.0, 4.0],
            "n_requests": [10, 5, 7],
            "devices": 1,
        }
    )
    return frame.assign(**changes)


def test_a_bar_begins_with_its_load_and_pauses_are_cut():
    (axis,) = diagrams.schedule(batches()).axes
    loading, generating = axis.containers
    assert [label.get_text() for label in axis.get_yticklabels()] == ["sums", "letters"]
    assert [round(bar.get_x(), 3) for bar in loading][:2] == [0, 11]
    assert [bar.get_width() for bar in loading] == [2, 1, 2]
    assert [bar.get_width() for bar in generating] == [8, 3, 4]
    assert [round(b.get_x() - a.get_x(), 6) for a, b in zip(loading, generating, strict=True)] == [2, 1, 2]
    # 20 s of work: the pause keeps 2% of it.
    assert loading[2].get_x() == pytest.approx(15 + 0.4)
    assert len([line for line in axis.lines if line.get_linestyle() == ":"]) == 1
    assert loading[0].get_hatch() and not generating[0].get_hatch()


def test_only_loads_of_this_run():
    (axis,) = diagrams.schedule(batches(this_run=[True, False, False])).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["sums"]
    with pytest.raises(SkillmoeError, match="no load belongs to this run"):
        diagrams.schedule(batches(this_run=False))


def test_the_same_bytes_twice(tmp_path):
    for number in "ab":
        figures.save_figure(diagrams.recruitment_flow(FLOW), FLOW, tmp_path / number / "flow")
        figures.save_figure(diagrams.schedule(batches()), batches(), tmp_path / number / "schedule")
        figures.save_figure(diagrams.skill_graph(EDGES), EDGES, tmp_path / number / "graph")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


EDGES = pd.DataFrame(
    [("logic", "sums", 4, 9, 16), ("maps", "sums", 2, 3, 16), ("law", "tax", 3, 5, 4)],
    columns=["skill", "other", "n_both", "n_skill", "n_other"],
)


def test_a_graph_has_a_dot_for_each_skill_and_a_line_for_each_pair():
    (axis,) = diagrams.skill_graph(EDGES).axes
    assert words(axis.figure) == ["sums", "logic", "law", "tax", "maps"]
    (dots,) = axis.collections
    area = dict(zip(words(axis.figure), dots.get_sizes(), strict=True))
    assert area == pytest.approx(
        {"sums": 330, "logic": 30 + 300 * 9 / 16, "law": 123.75, "tax": 105, "maps": 86.25}
    )
    widths = [round(line.get_linewidth(), 3) for line in axis.lines]
    assert widths == [3.4, 1.9, 2.65]  # 4, 2 and 3 of at most 4 questions
    at = dict(zip(words(axis.figure), dots.get_offsets().tolist(), strict=True))
    assert axis.lines[0].get_xydata().tolist() == [pytest.approx(at["logic"]), pytest.approx(at["sums"])]


def test_a_large_graph_shows_the_skills_with_most_questions():
    (axis,) = diagrams.skill_graph(EDGES, n_skills=3).axes
    assert words(axis.figure) == ["sums", "logic", "law"]
    assert len(axis.lines) == 1
    assert "3 of 5 connected skills with most questions, and 1 of 3 pairs" in " ".join(
        axis.figure.get_supxlabel().split()
    )
    with pytest.raises(SkillmoeError, match="the frame has no rows"):
        diagrams.skill_graph(EDGES[:0])
