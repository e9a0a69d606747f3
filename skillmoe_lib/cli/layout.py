"""The order in which a report tells its figures and tables, what they are called, and what to look at."""

from typing import NamedTuple


class Shown(NamedTuple):
    """A figure's or table's place on the page: section, title, and what to look at."""

    section: str
    title: str
    about: str = ""


#: Sections in the order of the page; what is not listed below comes under the last.
SECTIONS = ("Results", "Costs", "Experts and recruiting", "Choices on validation", "More tables")

FIGURES = {
    "accuracy": Shown("Results", "Accuracy of every method"),
    "differences": Shown("Results", "Differences, paired"),
    "beside_published": Shown("Results", "Beside the published figures"),
    "curve": Shown("Results", "Accuracy by setting"),
    "gap_closed": Shown("Results", "How much of the gap to the oracle is closed"),
    "accuracy_cost": Shown("Costs", "Accuracy against cost"),
    "equal_cost": Shown("Costs", "Against the best baseline at the same cost"),
    "accuracy_calls": Shown("Costs", "Sequential recruiting against a fixed number of experts"),
    "calls_tokens": Shown("Costs", "Where the cost comes from"),
    "run_times": Shown("Costs", "Run times"),
    "schedule": Shown("Costs", "What ran when"),
    "loads_real_run": Shown("Costs", "Loads of the test run"),
    "loads_by_policy": Shown("Costs", "Loads under other policies"),
    "profiles": Shown("Experts and recruiting", "Profiles: which expert is good at which skill"),
    "recruitment_flow": Shown("Experts and recruiting", "From skills to experts"),
    "slots": Shown("Experts and recruiting", "Who was recruited for which subject"),
    "calibration": Shown("Experts and recruiting", "Are experts as accurate as the router expects?"),
    "agreement": Shown("Experts and recruiting", "Which experts answer alike"),
    "experts_by_family": Shown("Experts and recruiting", "Every expert on every family of questions"),
    "statuses": Shown("Results", "Answers that were not right"),
    "shapley": Shown("Results", "What each expert is worth (Shapley value)"),
    "learning_curve": Shown("Results", "How many validation questions are enough"),
    "budget": Shown("Results", "Accuracy for a budget of calls"),
    "routers": Shown("Results", "Routers, against the fixed best experts"),
    "skill_graph": Shown("Experts and recruiting", "Skills that occur together"),
    "profile_cells": Shown("Experts and recruiting", "Profiles, with what is certain"),
}

TABLES = {
    "differences": Shown(
        "Results",
        "Differences, paired",
        "Better and worse need the interval and Holm's p; all else is “cannot tell”, which is not “equal”.",
    ),
    "headline": Shown("Results", "The paper's headline, on these questions"),
    "beside_published": Shown("Results", "Beside the published figures"),
    "below_one_answer": Shown(
        "Results", "Certainly worse than one answer of the best expert",
        "Beating one of these says something about these models, not about the method.",
    ),
    "gap_closed": Shown("Results", "Share of the gap to the oracle"),
    "curve": Shown("Results", "Accuracy by setting"),
    "candidates": Shown("Results", "Aggregators on items and in the pipeline"),
    "preparation": Shown(
        "Costs", "Asked before the test questions",
        "Keywords of test questions are needed by every new question; the rest is paid once.",
    ),
    "money": Shown(
        "Costs", "Money paid to served models",
        "By the dated price list, for what each method asks; what has no known price is counted apart.",
    ),
    "equal_cost": Shown("Costs", "Against the best baseline at the same cost"),
    "plan": Shown("Costs", "What the run was expected to take"),
    "predicted": Shown("Costs", "Predicted against actual cost"),
    "charged_against_measured": Shown(
        "Costs", "Charged against measured",
        "What a method is charged in the run of all, beside what it took when run alone.",
    ),
    "run_times": Shown("Costs", "Device seconds for one question, by way of running"),
    "run_time_ratios": Shown("Costs", "Run times as ratios, beside the published ones"),
    "loads": Shown("Costs", "Model loads of each method"),
    "loads_real_run": Shown("Costs", "Loads of the test run, and how few could do"),
    "loads_by_policy": Shown("Costs", "Loads under other policies"),
    "recruited": Shown("Experts and recruiting", "How many different experts a question gets"),
    "experts_by_family": Shown("Experts and recruiting", "Every expert on every family of questions"),
    "own_and_other_families": Shown("Experts and recruiting", "Trained families against all others"),
    "calibration": Shown("Experts and recruiting", "Expected and observed accuracy"),
    "why_these_experts": Shown("Experts and recruiting", "Why these experts, for one question"),
    "experts_validation": Shown("Choices on validation", "Experts on validation"),
    "experts_by_subject_validation": Shown("Choices on validation", "Experts by subject, on validation"),
    "aggregators": Shown("Choices on validation", "Aggregator candidates on items"),
    "router_settings": Shown("Choices on validation", "Settings of recruiting that were tried"),
    "thresholds": Shown("Choices on validation", "Thresholds of sequential recruiting that were tried"),
}  # fmt: skip

#: Shown elsewhere on the page, or too detailed for it; the files stay in the folder.
ELSEWHERE = frozenset({"accuracy", "batches", "overlaps"})


def place(names: dict[str, Shown], stem: str) -> Shown:
    """Where a figure or table stands; an unknown one is called after its file and comes last."""
    return names.get(stem, Shown(SECTIONS[-1], stem.replace("_", " ").capitalize()))


def order(names: dict[str, Shown], stem: str) -> tuple[int, str]:
    """Sorts stems into the told order, unknown ones by name."""
    known = list(names)
    return (known.index(stem), "") if stem in names else (len(known), stem)
