"""Values and texts of the cells."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation.heatmaps import (
    accuracy_by_family,
    agreement_matrix,
    profile_heatmap,
    recruitment,
)

PROFILES = pd.DataFrame(
    [
        ("ann", "algebra", 8, 10),
        ("ben", "algebra", -6, 10),
        ("ann", "logic", -4, 8),
        ("ben", "logic", 8, 8),
        ("ann", "rare", 1, 1),
        ("ann", "time", 0, 5),
    ],
    columns=["expert", "skill", "score", "n"],
)


def test_profile_heatmap_holds_mean_scores_and_says_right_minus_wrong():
    axis = profile_heatmap(PROFILES, n_skills=3).axes[0]
    # Totals: ann 5, ben 2. Ann's best skills first; "rare" has the fewest questions and is left out.
    assert [label.get_text() for label in axis.get_xticklabels()] == ["ann", "ben"]
    rows = [label.get_text() for label in axis.get_yticklabels()]
    assert rows == ["algebra (n = 10)", "time (n = 5)", "logic (n = 8)"]
    image = axis.collections[0]
    expected = np.ma.masked_invalid([[0.8, -0.6], [0.0, np.nan], [-0.5, 1.0]])
    assert image.get_array().tolist() == expected.tolist()
    assert image.get_clim() == (-1, 1)
    assert [text.get_text() for text in axis.texts] == ["+8", "-6", "+0", "-4", "+8"]
    # Zero is the middle of the map, and neither red nor blue.
    assert min(image.cmap(image.norm(0.0))[:3]) > 0.95


def test_text_can_be_read_on_dark_and_light_cells():
    axis = profile_heatmap(PROFILES, n_skills=3).axes[0]
    colours = {text.get_text(): text.get_color() for text in axis.texts}
    shade = {name: min(mpl.colors.to_rgb(colour)) for name, colour in colours.items()}
    assert shade["+0"] < 0.3
    assert shade["+8"] > 0.9


def test_profile_heatmap_refuses_two_rows_for_one_cell():
    with pytest.raises(SkillmoeError, match="one row an expert and skill"):
        profile_heatmap(pd.concat([PROFILES, PROFILES]))


def test_slots_are_shares_of_each_subject():
    rows = [
        ("moe", expert, subject) for expert, subject in zip("aabab", ["x", "x", "x", "y", "y"], strict=True)
    ]
    routes = pd.DataFrame([*rows, ("moe", "b", "x")], columns=["method", "expert", "subject"])
    axis = recruitment(routes).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["x (n = 4 slots)", "y (n = 2 slots)"]
    assert axis.collections[0].get_array().tolist() == [[50.0, 50.0], [50.0, 50.0]]
    with pytest.raises(SkillmoeError, match="one method, given moe, random"):
        recruitment(pd.concat([routes, routes.assign(method="random")]))
    with pytest.raises(SkillmoeError, match="needs the column 'subject'"):
        recruitment(routes.drop(columns="subject"))


def test_accuracy_by_family_puts_each_experts_own_families_together():
    rows = [("sums", "ann", 0.9), ("spelling", "ann", 0.1), ("sums", "ben", 0.0), ("spelling", "ben", 1.0)]
    table = pd.DataFrame(rows, columns=["family", "expert", "accuracy"]).assign(n=40)
    axis = accuracy_by_family(table).axes[0]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["ben", "ann"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["spelling (n = 40)", "sums (n = 40)"]
    assert axis.collections[0].get_array().tolist() == [[100.0, 10.0], [0.0, 90.0]]
    assert [text.get_text() for text in axis.texts] == ["100", "10", "0", "90"]


def test_experts_that_agree_stand_together():
    names = ["ann", "bob", "cid"]
    shares = {("ann", "cid"): 0.9, ("ann", "bob"): 0.1, ("bob", "cid"): 0.2}
    rows = [
        (a, b, 1.0 if a == b else shares[min(a, b), max(a, b)], 40) for a in names for b in names
    ]  # fmt: skip
    axis = agreement_matrix(pd.DataFrame(rows, columns=["expert_a", "expert_b", "agreement", "n"])).axes[0]
    order = [label.get_text() for label in axis.get_yticklabels()]
    assert order == [label.get_text() for label in axis.get_xticklabels()]
    assert abs(order.index("ann") - order.index("cid")) == 1
    assert sorted(text.get_text() for text in axis.texts) == [
        "10",
        "10",
        "100",
        "100",
        "100",
        "20",
        "20",
        "90",
        "90",
    ]
    assert axis.collections[0].get_clim() == (0, 90)  # the diagonal says nothing


def test_a_pair_without_common_answers_is_grey():
    rows = [("a", "a", 1.0, 3), ("a", "b", None, 0), ("b", "a", None, 0), ("b", "b", 1.0, 2)]
    axis = agreement_matrix(pd.DataFrame(rows, columns=["expert_a", "expert_b", "agreement", "n"])).axes[0]
    assert sorted(text.get_text() for text in axis.texts) == ["100", "100"]
