"""Contents of figures, not pixels: positions, texts, and no change of global state."""

import io
import itertools
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from PIL import Image

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation import figures

METHODS = ["CoT", "Symbolic-MoE", "Debate", "Instance oracle", "Random-3"]
GROUPS = {"Instance oracle": "bounds", "Random-3": "controls"}


def accuracy_table(**changes: object) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "method": METHODS,
            "benchmark": "toy",
            "accuracy": [0.5, 0.75, 0.6, 0.9, 0.2],
            "low": [0.4, 0.65, 0.5, 0.8, 0.1],
            "high": [0.6, 0.85, 0.7, 1.0, 0.3],
            "n_questions": 40,
            "n_correct": [20, 30, 24, 36, 8],
            "n_answered": [36, 40, 36, 40, 20],
            "n_unparsed": [3, 0, 2, 0, 10],
            "n_cut": [1, 0, 2, 0, 10],
            "n_overflow": 0,
            "n_not_run": [0, 0, 0, 0, 10],
        }
    )
    return frame.assign(**changes)


def summary(**changes: object) -> pd.DataFrame:
    costs = {"calls": [1, 4, 6, 16, 4], "prompt_tokens": [100, 400, 900, 1600, 400]}
    more = {"output_tokens": [50, 200, 300, 800, 200], "device_seconds": [0.1, 0.4, 0.9, 1.6, 0.5]}
    return accuracy_table(**(costs | more | changes))


def compare_table() -> pd.DataFrame:
    verdicts = ["better", "cannot tell", "better", "worse"]
    return pd.DataFrame(
        {
            "method": METHODS[1:],
            "benchmark": "toy",
            "baseline": "CoT",
            "difference": [0.25, 0.1, 0.4, -0.3],
            "low": [0.15, -0.02, 0.3, -0.4],
            "high": [0.35, 0.22, 0.5, -0.2],
            "n_questions": 40,
            "n_missing": [0, 0, 0, 3],
            "verdict": verdicts,
        }
    )


def dots(axis):
    """Method name -> (x, y, line) of each single-point line."""
    names = [label.get_text() for label in axis.get_yticklabels()]
    points = [line for line in axis.lines if len(line.get_xdata()) == 1]
    return {names[round(float(p.get_ydata()[0]))]: (float(p.get_xdata()[0]), p) for p in points}


def texts(axis):
    return [text.get_text().strip() for text in axis.texts]


def test_accuracy_bars_draws_percent_in_order_with_bounds_apart():
    chart = figures.accuracy_bars(accuracy_table(), groups=GROUPS)
    (axis,) = chart.axes
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert names == [
        "methods",
        "Symbolic-MoE",
        "Debate",
        "CoT",
        "bounds",
        "Instance oracle",
        "controls",
        "Random-3",
    ]
    bold = [label.get_text() for label in axis.get_yticklabels() if label.get_fontweight() == "bold"]
    assert bold == ["methods", "bounds", "controls"]
    drawn = dots(axis)
    assert {name: x for name, (x, _) in drawn.items()} == {
        "Symbolic-MoE": 75.0, "Debate": 60.0, "CoT": 50.0, "Instance oracle": 90.0, "Random-3": 20.0,
    }  # fmt: skip
    segments = [path.vertices[:, 0].tolist() for lines in axis.collections for path in lines.get_paths()]
    assert [65.0, 85.0] in segments
    assert texts(axis) == ["50.0", "75.0", "60.0", "90.0", "20.0"]
    # Never colour alone: each group has a marker of its own.
    assert len({drawn[name][1].get_marker() for name in ("CoT", "Instance oracle", "Random-3")}) == 3
    assert axis.get_title(loc="left") == "toy, n = 40 questions"
    assert axis.get_ylim()[0] > axis.get_ylim()[1]


def test_long_names_are_folded_and_nothing_overlaps():
    longest = "Majority vote of the recruited, test questions, keywords and validation questions"
    chart = figures.accuracy_bars(accuracy_table(label=[longest, "b", "c", longest + " again", "d"]))
    canvas = FigureCanvasAgg(chart)
    canvas.draw()
    axis, drawn = chart.axes[0], canvas.get_renderer()
    boxes = [label.get_window_extent(drawn) for label in axis.get_yticklabels()]
    assert min(box.x0 for box in boxes) >= 0
    assert all(not one.overlaps(other) for one, other in itertools.pairwise(boxes))
    caption = chart._supxlabel.get_window_extent(drawn)
    assert axis.xaxis.label.get_window_extent(drawn).y0 >= caption.y1


def test_accuracy_bars_shows_what_was_not_run():
    gone = [None, 0.75, 0.6, 0.9, 0.2]
    frame = accuracy_table(accuracy=pd.array(gone, "Float64"), n_questions=[0, 40, 40, 39, 40])
    chart = figures.accuracy_bars(frame)
    assert texts(chart.axes[0])[0] == "not run"
    assert chart.axes[0].get_title(loc="left") == "toy, n = 0 to 40 questions"


def labelled(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with identifiers in `method` and what people read in `label`."""
    names = {name: name.lower().replace("-", "_").replace(" ", "_") for name in METHODS}
    return frame.assign(label=frame["method"], method=frame["method"].map(names))


def test_labels_are_shown_and_groups_go_by_identifiers():
    groups = {"debate": "baselines", "instance_oracle": "bounds", "random_3": "controls"}
    frame = labelled(accuracy_table())
    (axis,) = figures.accuracy_bars(frame, groups=groups).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == [
        "methods", "Symbolic-MoE", "CoT", "baselines", "Debate", "bounds", "Instance oracle", "controls",
        "Random-3",
    ]  # fmt: skip
    (axis,) = figures.status_bars(frame).axes
    assert {label.get_text() for label in axis.get_yticklabels()} == set(METHODS)
    (axis,) = figures.accuracy_cost(labelled(summary()), groups=groups).axes
    assert sorted(texts(axis)) == sorted(METHODS)
    # A baseline competes; controls and bounds do not.
    steps = next(line for line in axis.lines if len(line.get_xdata()) > 1)
    assert steps.get_xdata().tolist() == [0.1, 0.4, 0.9]
    compared = labelled(compare_table()).assign(baseline="cot", baseline_label="CoT")
    (axis,) = figures.differences(compared, groups=groups).axes
    assert axis.get_xlabel() == "accuracy minus CoT (points)"
    assert "Symbolic-MoE" in [label.get_text() for label in axis.get_yticklabels()]
    curve = frame.assign(k=[1, 2, 3, 4, 5])
    (axis,) = figures.learning_curve(curve, x="k").axes
    assert [line.get_label() for line in axis.lines] == METHODS


def test_one_panel_for_each_benchmark():
    both = pd.concat([accuracy_table(), accuracy_table(benchmark="other", accuracy=0.1)])
    chart = figures.accuracy_bars(both)
    assert [axis.get_title(loc="left").split(",")[0] for axis in chart.axes] == ["toy", "other"]
    # Ordered by the mean (Debate .35, Symbolic-MoE .425): the same row holds the same method everywhere.
    first, second = ([float(p.get_ydata()[0]) for p in axis.lines] for axis in chart.axes)
    assert first == second == [3, 1, 2, 0, 4]


def test_panels_keep_the_order_of_benchmarks_and_wrap():
    names = ["toy", "b", "c"]
    frame = pd.concat([summary(benchmark=name, device_seconds=[5 - i] * 5) for i, name in enumerate(names)])
    chart = figures.accuracy_cost(frame)
    assert [axis.get_title(loc="left").split(",")[0] for axis in chart.axes] == names
    assert [axis.get_subplotspec().rowspan.start for axis in chart.axes] == [0, 0, 1]


def test_differences_has_a_zero_line_and_hollow_means_cannot_tell():
    chart = figures.differences(compare_table(), groups=GROUPS)
    (axis,) = chart.axes
    assert axis.get_xlabel() == "accuracy minus CoT (points)"
    assert any(list(line.get_xdata()) == [0, 0] for line in axis.lines)
    drawn = dots(axis)
    assert {name: round(x, 9) for name, (x, _) in drawn.items()} == {
        "Symbolic-MoE": 25.0, "Debate": 10.0, "Instance oracle": 40.0, "Random-3": -30.0,
    }  # fmt: skip
    hollow = [name for name, (_, point) in drawn.items() if point.get_markerfacecolor() == "white"]
    assert hollow == ["Debate"]
    assert texts(axis) == ["+25.0", "+10.0", "+40.0", "-30.0 (3 missing)"]


def test_accuracy_cost_places_names_apart_and_inside():
    chart = figures.accuracy_cost(summary(), groups=GROUPS)
    (axis,) = chart.axes
    points = [
        (float(p.get_xdata()[0]), float(p.get_ydata()[0])) for p in axis.lines if len(p.get_xdata()) == 1
    ]
    assert sorted(points) == [(0.1, 50.0), (0.4, 75.0), (0.5, 20.0), (0.9, 60.0), (1.6, 90.0)]
    assert sorted(texts(axis)) == sorted(METHODS)
    # The steps join the best methods, not the bounds.
    steps = next(line for line in axis.lines if len(line.get_xdata()) > 1)
    assert steps.get_ydata().tolist() == [50.0, 75.0, 75.0]
    assert axis.get_xlabel() == "device seconds per question"
    assert axis.get_xscale() == "linear"
    renderer = FigureCanvasAgg(chart).get_renderer()
    boxes = [text.get_window_extent(renderer) for text in axis.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_methods_at_the_same_point_share_a_label():
    accuracy, seconds = [0.5, 0.75, 0.5, 0.9, 0.5], [0.1, 0.4, 0.1, 1.6, 0.9]
    chart = figures.accuracy_cost(summary(accuracy=accuracy, device_seconds=seconds), groups=GROUPS)
    assert sorted(texts(chart.axes[0])) == ["CoT, Debate", "Instance oracle", "Random-3", "Symbolic-MoE"]


def test_accuracy_cost_with_twenty_crowded_methods():
    names = [f"A method with a long name {i:02d}" for i in range(20)]
    frame = pd.DataFrame({"method": names, "benchmark": "toy", "n_questions": 40})
    frame = frame.assign(accuracy=np.linspace(0.3, 0.7, 20), calls=[1 + (7 * i) % 10 for i in range(20)])
    chart = figures.accuracy_cost(
        frame.assign(low=frame["accuracy"] - 0.1, high=frame["accuracy"] + 0.1), cost="calls"
    )
    axis, renderer = chart.axes[0], FigureCanvasAgg(chart).get_renderer()
    boxes = [text.get_window_extent(renderer) for text in axis.texts]
    clashes = sum(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert clashes <= 2
    assert all(axis.get_window_extent().padded(3).contains(*box.min) for box in boxes)


def test_accuracy_cost_turns_logarithmic_and_leaves_out_what_has_no_cost():
    frame = summary(device_seconds=[0.01, 0.4, None, 1.6, 0.5])
    chart = figures.accuracy_cost(frame)
    assert chart.axes[0].get_xscale() == "log"
    assert "Debate" not in texts(chart.axes[0])
    with pytest.raises(SkillmoeError, match="nothing to draw"):
        figures.accuracy_cost(summary(device_seconds=None))


def test_calls_tokens_stacks_prompt_and_output():
    frame = summary(device_seconds=[0.1, 0.4, None, 1.6, 0.5])
    calls, tokens, seconds = figures.calls_tokens(frame).axes
    assert [axis.get_xlabel() for axis in (calls, tokens, seconds)] == [
        "calls / question", "tokens / question", "device s / question",
    ]  # fmt: skip
    assert texts(calls) == ["1", "4", "6", "16", "4"]
    assert texts(tokens) == ["150", "600", "1,200", "2,400", "600"]
    assert texts(seconds)[2] == "not on record"
    prompt, output = tokens.containers
    assert [bar.get_width() for bar in prompt] == [100, 400, 900, 1600, 400]
    assert [bar.get_x() for bar in output] == [100, 400, 900, 1600, 400]
    assert {bar.get_hatch() for bar in prompt} != {bar.get_hatch() for bar in output}


def test_status_bars_are_shares_of_all_rows():
    chart = figures.status_bars(accuracy_table())
    (axis,) = chart.axes
    # Random-3: 50 rows, 12 wrong, 10 unparsed, 10 cut, 10 not run. CoT: 16, 3 and 1 of 40.
    shares = {bars.get_label(): [bar.get_width() for bar in bars] for bars in axis.containers}
    assert list(shares) == ["wrong", "unparsed", "cut", "overflow", "not run"]
    assert [values[4] for values in shares.values()] == pytest.approx([24, 20, 20, 0, 20])
    assert [values[0] for values in shares.values()] == pytest.approx([40, 7.5, 2.5, 0, 0])
    assert len({bars[0].get_hatch() for bars in axis.containers}) == 5
    assert [text.get_text() for text in chart.legends[0].get_texts()] == list(shares)


def test_learning_curve_draws_a_line_a_method():
    rows = [(m, "toy", n, a, a - 0.1, a + 0.1, 40) for m in ("a", "b") for n, a in ((100, 0.6), (20, 0.4))]
    frame = pd.DataFrame(
        rows, columns=["method", "benchmark", "n_validation", "accuracy", "low", "high", "n_questions"]
    )
    (axis,) = figures.learning_curve(frame, x="n_validation").axes
    assert axis.get_xlabel() == "n validation"
    assert [line.get_label() for line in axis.lines] == ["a", "b"]
    assert axis.lines[0].get_xdata().tolist() == [20, 100]
    assert axis.lines[0].get_ydata().tolist() == pytest.approx([40, 60])
    assert axis.lines[0].get_marker() != axis.lines[1].get_marker()
    calibration = frame[:2].assign(predicted=[0.5, 0.4])
    (axis,) = figures.learning_curve(calibration, x="predicted", diagonal=True).axes
    assert axis.lines[0].get_xdata().tolist() == pytest.approx([40, 50])
    assert list(axis.lines[-1].get_xdata()) == [0, 100]


def test_curve_draws_a_line_a_label_as_given():
    rows = [("vote", 10, 50.0, 40.0, 60.0), ("vote", 5, 45.0, None, None), ("top k", 5, 30.0, 20.0, 40.0)]
    frame = pd.DataFrame(rows, columns=["label", "x", "y", "low", "high"])
    chart = figures.curve(frame, x="validation questions", y="accuracy (%)")
    (axis,) = chart.axes
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("validation questions", "accuracy (%)")
    assert [line.get_xdata().tolist() for line in axis.lines] == [[5, 10], [5]]
    assert axis.lines[0].get_ydata().tolist() == [45, 50]
    # Never colour alone.
    assert axis.lines[0].get_linestyle() != axis.lines[1].get_linestyle()
    assert axis.lines[0].get_marker() != axis.lines[1].get_marker()
    assert [text.get_text() for text in chart.legends[0].get_texts()] == ["vote", "top k"]


def test_the_row_of_symbolic_moe_has_a_band():
    (axis,) = figures.accuracy_bars(labelled(accuracy_table())).axes
    (band,) = axis.patches
    assert (band.get_y(), band.get_height()) == pytest.approx((0.55, 0.9))  # second of the order
    assert figures.accuracy_bars(accuracy_table()).axes[0].patches[:] == []


def test_the_front_is_ringed():
    (axis,) = figures.accuracy_cost(summary(), groups=GROUPS).axes
    (rings,) = [found for found in axis.collections if isinstance(found, PathCollection)]
    assert rings.get_offsets().tolist() == [[0.1, 50.0], [0.4, 75.0]]


def test_equal_cost_names_both_methods():
    frame = pd.DataFrame(
        {"method": ["symbolic_moe", "committee"], "label": ["Symbolic-MoE", "Committee"], "rival": "sc",
         "rival_label": "Self-Consistency", "difference": [0.155, -0.01], "low": [0.1, -0.05],
         "high": [0.2, 0.03],
         "n_questions": 40}
    )  # fmt: skip
    (axis,) = figures.equal_cost(frame).axes
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert names == ["Symbolic-MoE − Self-Consistency", "Committee − Self-Consistency"]
    assert texts(axis) == ["+15.5", "-1.0"]
    assert any(list(line.get_xdata()) == [0, 0] for line in axis.lines)


def test_gap_closed_is_in_percent():
    frame = pd.DataFrame(
        {"method": ["a", "b"], "benchmark": "toy", "gap_closed": [0.4, -0.1], "n_questions": 40}
    )
    (axis,) = figures.gap_closed(
        frame.assign(low=frame["gap_closed"] - 0.1, high=frame["gap_closed"] + 0.1)
    ).axes
    assert texts(axis) == ["40.0", "-10.0"]
    assert axis.get_xlabel() == "gap closed (%)"


COLUMN = {
    "accuracy": lambda: figures.accuracy_bars(labelled(accuracy_table()), groups=GROUPS, column=True),
    "differences": lambda: figures.differences(compare_table(), column=True),
    "cost": lambda: figures.accuracy_cost(summary(), column=True),
    "curve": lambda: figures.learning_curve(accuracy_table(k=[1, 2, 3, 4, 5]), x="k", column=True),
}


@pytest.mark.parametrize("name", COLUMN)
def test_one_column_is_wide_enough_to_read(name):
    """3.3 inches: no text below 5.5 points, and everything inside the figure."""
    chart = COLUMN[name]()
    assert chart.get_size_inches()[0] == pytest.approx(3.3)
    renderer = FigureCanvasAgg(chart).get_renderer()
    chart.draw(renderer)
    found = [text for text in chart.findobj(mpl.text.Text) if text.get_text().strip() and text.get_visible()]
    assert min(text.get_fontsize() for text in found) >= 5.5
    drawn = chart.get_tightbbox(renderer)  # in inches, without ticks beyond the axes
    assert drawn.x0 > -0.01
    assert drawn.x1 < 3.31


def test_refuses():
    with pytest.raises(SkillmoeError, match="needs the column 'low'"):
        figures.accuracy_bars(accuracy_table().drop(columns="low"))
    with pytest.raises(SkillmoeError, match="no rows"):
        figures.status_bars(accuracy_table()[:0])


def test_save_figure_writes_the_same_bytes_twice(tmp_path):
    frame = compare_table()
    written = [
        figures.save_figure(figures.differences(frame), frame, tmp_path / run / "differences.toy")
        for run in "ab"
    ]
    assert [path.name for path in written[0]] == [
        "differences.toy.png",
        "differences.toy.svg",
        "differences.toy.csv",
    ]
    for first, second in zip(*written, strict=True):
        assert first.read_bytes() == second.read_bytes()
    assert b"<dc:date>" not in written[0][1].read_bytes()
    pd.testing.assert_frame_equal(pd.read_csv(written[0][2]), frame)


def test_save_figure_that_cannot_be_written(tmp_path):
    (tmp_path / "taken").write_text("a file where a folder should be")
    with pytest.raises(SkillmoeError, match="cannot write the figure"):
        figures.save_figure(Figure(), compare_table(), tmp_path / "taken" / "figure")


def test_no_global_state():
    before = dict(mpl.rcParams)
    figures.accuracy_bars(accuracy_table())
    assert dict(mpl.rcParams) == before
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_a_notebook_shows_the_saved_figure(tmp_path):
    chart = figures.accuracy_bars(accuracy_table())
    drawn = Image.open(io.BytesIO(chart._repr_png_()))
    figures.save_figure(chart, accuracy_table(), tmp_path / "accuracy")
    saved = Image.open(io.BytesIO(chart._repr_png_()))  # not drawn again
    assert drawn.size == saved.size
    small = [np.asarray(image.convert("L").reduce(20), float) for image in (drawn, saved)]
    assert np.corrcoef(small[0].ravel(), small[1].ravel())[0, 1] > 0.9
