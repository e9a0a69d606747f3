"""An explorer for JupyterLab: what if the pool, k, the router or the validation split were another?

The controls are the options of `what_if`; accuracy, cost and the answers to one question are redrawn from
recorded outcomes, nothing is generated. The picture and the texts are values of `Image` and `HTML` widgets:
an `Output` widget would be emptied before each redraw, and flicker. All that a person or a model wrote is
escaped: it is shown as text and never read as markup.
"""

import io
import time
from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.artist import Artist

from skillmoe_lib import paths, recorded, tables
from skillmoe_lib.errors import SkillmoeError, require
from skillmoe_lib.evaluation import figures
from skillmoe_lib.evaluation.intervals import Interval, paired_bootstrap, wilson
from skillmoe_lib.inference.store import GenerationStore
from skillmoe_lib.methods import lineup
from skillmoe_lib.presets import PRESETS
from skillmoe_lib.routing import tuning
from skillmoe_lib.studies.outcomes import Bools, Outcomes, from_recorded, from_report
from skillmoe_lib.studies.what_if import METHODS, SEQUENTIAL, WhatIf, tuned_settings, what_if

#: (question_id, expert) -> what the expert wrote, "" if that is not known.
Texts = Callable[[str, str], str]
#: Costs in the order of preference, with their units; calls are always known.
UNITS = {"device_seconds": "device s", "money": "paid", "output_tokens": "output tokens", "calls": "calls"}
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99)
N_VALIDATION = (5, 10, 20, 40, 80, 160, 320, 640, 1280)
KINDS = {
    "all": "all questions",
    "wrong": "answered wrongly",
    "right": "answered rightly",
    "lost": "wrong, though an expert of the pool was right",
    "split": "the recruited experts disagreed",
}
#: A slider's value for "as the preset, or validation, says"; ipywidgets keeps None for "nothing selected".
UNSET = -1
N_EARLIER = 30  # settings kept in the picture
BLUE, ORANGE = figures.COLOURS[:2]


class Point(NamedTuple):
    """What one setting gave: mean cost per question and accuracy with its interval."""

    cost: float
    accuracy: Interval


class Explorer:
    """The explorer of one pool: display its `panel`.

    Parameters
    ----------
    outcomes
        What every expert answered to every question.
    texts
        What the experts wrote, for the question that is shown (`texts_of`); None: only answers are shown.

    Attributes
    ----------
    panel
        The widget that a notebook displays.
    controls
        The widgets of the settings and of the choice of a question, by name.
    found
        What the present settings give.
    redraws_s
        Seconds that each redraw took here, without the browser.
    """

    def __init__(self, outcomes: Outcomes, *, texts: Texts | None = None) -> None:
        require("the explorer", "ipywidgets", extra="lab")
        import ipywidgets as widgets

        self.outcomes, self.texts = outcomes, texts
        self.cost = cost_of(outcomes)
        self.drawing = Picture(outcomes, self.cost)
        self.redraws_s: list[float] = []
        self.earlier: list[Point] = []
        self.prior: float | None = None
        self._held = False
        self.members = {
            name: widgets.Checkbox(True, description=name, indent=False) for name in outcomes.experts
        }
        self.controls = _controls(outcomes)
        self.headline, self.answers = widgets.HTML(), widgets.HTML()
        self.picture = widgets.Image(format="png")
        self.tune = widgets.Button(description="Choose temperature on validation", tooltip="takes seconds")
        self.everyone = widgets.Button(description="All experts")
        for name, part in {
            "headline": self.headline,
            "picture": self.picture,
            "answers": self.answers,
        }.items():
            part.add_class(f"skillmoe-{name}")
        self.panel = self._laid_out()
        self.question_id = str(outcomes.ids("test")[0])
        self.found: WhatIf
        self.redraw()
        chooses = {"kind": self._first, "number": self._numbered, "id": self._named}
        for member in self.members.values():
            member.observe(self.redraw, "value")
        for name, control in self.controls.items():
            control.observe(chooses.get(name, self.redraw), "value")
        self.everyone.on_click(self._all_in)
        self.tune.on_click(self._tuned)

    def settings(self) -> dict[str, Any]:
        """The options of `what_if` that the controls stand for."""
        value = {
            name: None if control.value == UNSET else control.value for name, control in self.controls.items()
        }
        skilled = value["method"] == "majority_vote"
        return {
            "experts": [name for name, member in self.members.items() if member.value],
            "method": value["method"],
            "k": value["k"],
            "preset": value["preset"],
            "temperature": value["temperature"] if skilled else None,
            "prior": self.prior if skilled and value["temperature"] is not None else None,
            "threshold": value["threshold"] if value["method"] in SEQUENTIAL else None,
            "n_validation": value["n_validation"],
            "seed": value["seed"],
        }

    def redraw(self, _: object = None) -> None:
        """Answer for the present settings; what cannot be answered is said in one line."""
        if self._held:
            return
        start = time.perf_counter()
        settings = self.settings()
        self.controls["threshold"].disabled = settings["method"] not in SEQUENTIAL
        for name in ("temperature", "preset"):
            self.controls[name].disabled = self.tune.disabled = settings["method"] != "majority_vote"
        try:
            self.found = what_if(self.outcomes, **settings)
        except SkillmoeError as error:
            self.headline.value = f"<b>{escape(str(error))}</b>"
            return
        now = Point(spent(self.found, self.cost), self.found.accuracy)
        self.headline.value = headline(self.found, self.cost, settings["k"])
        self.picture.value = self.drawing.png(self.found, [*self.earlier, now])
        self.earlier = [*self.earlier, now][-N_EARLIER:]
        self._show_question()
        self.redraws_s.append(time.perf_counter() - start)

    def of_kind(self) -> list[str]:
        """Ids of the test questions of the kind chosen, in order."""
        kept = of_kind(self.found)[self.controls["kind"].value]
        return [str(name) for name in self.found.question_ids[kept]]

    def _show_question(self) -> None:
        ids = self.of_kind()
        self.controls["of"].value = f"of {len(ids):,}"
        self.answers.value = answers_html(self.found, self.question_id, self.texts)

    def _first(self, _: object = None) -> None:
        self.controls["number"].value = 1
        self._numbered()

    def _numbered(self, _: object = None) -> None:
        ids = self.of_kind()
        if ids:
            self.question_id = ids[min(self.controls["number"].value, len(ids)) - 1]
        self._show_question()

    def _named(self, _: object = None) -> None:
        asked = self.controls["id"].value.strip()
        if asked in self.found.question_ids:
            self.question_id = asked
            self._show_question()
        elif asked:
            self.answers.value = f"<b>no test question has the id {escape(repr(asked))}</b>"

    def _all_in(self, _: object = None) -> None:
        self._held = True
        for member in self.members.values():
            member.value = True
        self._held = False
        self.redraw()

    def _tuned(self, _: object = None) -> None:
        pool = self.found.outcomes
        chosen = tuned_settings(pool, k=self.controls["k"].value, preset=self.controls["preset"].value)
        self._held = True
        self.prior, self.controls["temperature"].value = chosen["prior"], chosen["temperature"]
        self._held = False
        self.redraw()

    def _laid_out(self) -> Any:
        import ipywidgets as widgets

        wide = {"flex_flow": "row wrap", "display": "flex"}
        pool = widgets.HBox(list(self.members.values()), layout=widgets.Layout(**wide, max_width="420px"))
        for member in self.members.values():
            member.layout = widgets.Layout(width="135px")
        c = self.controls
        chosen = [c[name] for name in ("method", "k", "preset", "temperature")]
        more = [c[name] for name in ("threshold", "n_validation", "seed")]
        left = widgets.VBox([pool, self.everyone, *chosen, self.tune, *more])
        right = widgets.VBox([self.headline, self.picture], layout=widgets.Layout(flex="1 1 520px"))
        asked = widgets.HBox(
            [c[name] for name in ("kind", "number", "of", "id")], layout=widgets.Layout(**wide)
        )
        top = widgets.HBox([left, right], layout=widgets.Layout(**wide))
        return widgets.VBox([top, asked, self.answers])


def _controls(outcomes: Outcomes) -> dict[str, Any]:
    """The settings, and the choice of a question. Sliders tell their value when they are let go."""
    import ipywidgets as widgets

    style, lazy = {"description_width": "130px"}, {"continuous_update": False}
    most, labels = len(outcomes.rows("validation")), lineup.labels()
    sizes = [("all", UNSET), *((f"{n:,}", n) for n in N_VALIDATION if n < most)]

    def slider(description: str, options: Sequence[Any]) -> Any:
        return widgets.SelectionSlider(
            options=options, value=UNSET, description=description, style=style, **lazy
        )

    def whole(description: str, value: int, low: int, high: int) -> Any:
        return widgets.IntSlider(value, low, high, description=description, style=style, **lazy)

    return {
        "method": widgets.Dropdown(
            options=[(labels.get(name, name), name) for name in METHODS], description="method", style=style
        ),
        "k": whole("k (experts asked)", 3, 1, max(9, min(len(outcomes.experts), 16))),
        "preset": widgets.Dropdown(
            options=list(PRESETS), value="skillmoe", description="preset", style=style
        ),
        "temperature": slider(
            "temperature", [("preset's", UNSET), *((f"{t:g}", t) for t in tuning.GRID["temperature"])]
        ),
        "threshold": slider("sure enough at", [("chosen", UNSET), *((f"{t:g}", t) for t in THRESHOLDS)]),
        "n_validation": slider("validation questions", sizes),
        "seed": whole("draw (seed)", 0, 0, 9),
        "kind": widgets.Dropdown(
            options=[(text, name) for name, text in KINDS.items()], description="question", **_width("420px")
        ),
        "number": widgets.BoundedIntText(1, 1, max(1, len(outcomes.rows("test"))), **_width("90px")),
        "of": widgets.Label(""),
        "id": widgets.Text(placeholder="or its id", **lazy, **_width("220px")),
    }


def _width(width: str) -> dict[str, Any]:
    return {"layout": {"width": width}}


# -- what is shown ---------------------------------------------------------------------------------


def cost_of(outcomes: Outcomes) -> str:
    """The cost to draw: the first of `UNITS` that is known for every answer."""
    for name in UNITS:
        if name == "calls" or np.isfinite(getattr(outcomes, name)[outcomes.ran]).all():
            return name
    raise AssertionError("calls are always known")


def spent(found: WhatIf, cost: str) -> float:
    """Mean cost per test question."""
    return found.calls if cost == "calls" else found.cost[cost]


class Single(NamedTuple):
    """The expert with the best validation accuracy: its name, answers to test questions, and their cost."""

    expert: str
    correct: Bools
    cost: float


def best_single(pool: Outcomes, cost: str) -> Single:
    """The expert that one would use alone, chosen on validation; a tie goes to the first."""
    rows, asked = pool.rows("validation"), pool.rows("test")
    ran = pool.ran[rows].sum(axis=0)
    at = int(np.argmax((pool.correct[rows].sum(axis=0) + 1) / (ran + 2)))
    paid = 1.0 if cost == "calls" else float(getattr(pool, cost)[asked, at].mean())
    return Single(pool.experts[at], pool.correct[asked, at], paid)


def headline(found: WhatIf, cost: str, k: int) -> str:
    """Accuracy, cost, and the difference to the best single expert, as HTML."""
    pool, a, unit = found.outcomes, found.accuracy, UNITS[cost]
    alone = best_single(pool, cost)
    gain = paired_bootstrap(found.correct, alone.correct)
    paid = spent(found, cost)
    label = lineup.labels().get(found.method, found.method)
    bound = float(pool.correct[pool.rows("test")].any(axis=1).mean())
    sure = f", until {found.threshold:.0%} sure" if np.isfinite(found.threshold) else f", k = {k}"
    times = f"{paid / alone.cost:.2g} times its cost" if alone.cost else "its cost is not known"
    ours, theirs = f"{100 * a.estimate:.1f}%", f"{100 * alone.correct.mean():.1f}%"
    parts = [
        f"<b>{escape(label)}{sure}: {ours}</b> [{100 * a.low:.1f}, {100 * a.high:.1f}], n = {a.n:,}",
        f"{found.calls:.2f} calls" + (f", {paid:,.3g} {unit}" if cost != "calls" else "") + " per question",
        f"{100 * gain.estimate:+.1f} points [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}] over the best "
        f"single expert ({escape(alone.expert)}, {theirs}), at {times}",
        f"some expert of the pool is right: {100 * bound:.1f}%",
        f"learnt from {len(pool.rows('validation')):,} validation questions",
    ]
    return "<br>".join(parts)


class Picture:
    """Each expert alone with its share of the calls; accuracy against cost of the settings tried.

    One figure is drawn on again and again: to make its axes takes longer than to draw. For the same reason
    its titles and labels stand at fixed places, where matplotlib need not look for them.
    """

    @figures.themed
    def __init__(self, outcomes: Outcomes, cost: str) -> None:
        rows = max(len(outcomes.experts), 8)
        self.chart = figures.Chart(figsize=(9.4, 1.3 + 0.2 * rows), dpi=80)
        self.left, self.right = self.chart.subplots(1, 2, width_ratios=[3, 2])
        self.chart.subplots_adjust(left=0.17, right=0.985, top=0.93, bottom=0.16, wspace=0.33)
        self.left.set(xlabel="accuracy alone (%); line: this setting", yticks=[])
        self.right.set(xlabel=f"{UNITS[cost]} per question", ylabel="accuracy (%)")
        self.left.set_title("experts, with their share of the calls", y=1.0)
        self.right.set_title("settings tried (grey: earlier)", y=1.0)
        for axis in (self.left, self.right):
            axis.xaxis.set_label_coords(0.5, -0.09)
            axis.locator_params(axis="x", nbins=5)
        self.right.yaxis.set_label_coords(-0.21, 0.5)
        self.right.margins(0.15)
        self.drawn: list[Artist] = []

    @figures.themed
    def png(self, found: WhatIf, points: Sequence[Point]) -> bytes:
        """The picture of a setting; `points` are the settings tried, this one last."""
        for artist in self.drawn:
            artist.remove()
        for axis in (self.left, self.right):
            axis.relim()  # forgets what was removed
        self.drawn = [*self._experts(found, points[-1].accuracy), *self._settings(points)]
        self.chart.savefig(sink := io.BytesIO(), format="png")
        return sink.getvalue()

    def _experts(self, found: WhatIf, here: Interval) -> Iterator[Artist]:
        """Dot and interval of each expert alone, its name and share; line and band of this setting."""
        axis, pool = self.left, found.outcomes
        right = pool.correct[pool.rows("test")]
        held = np.bincount(found.chosen[found.chosen >= 0], minlength=len(pool.experts))
        order = np.argsort(right.mean(axis=0), kind="stable")
        alone = [wilson(int(right[:, i].sum()), len(right)) for i in order]
        at, gap = np.arange(len(order)), np.full(len(order), np.nan)
        ends = np.array([[100 * a.low for a in alone], [100 * a.high for a in alone], gap]).T.ravel()
        by_row = axis.get_yaxis_transform()
        yield axis.axvspan(100 * here.low, 100 * here.high, color=ORANGE, alpha=0.2, linewidth=0)
        yield axis.axvline(100 * here.estimate, color=ORANGE)
        yield from axis.plot(ends, np.repeat(at, 3), color=BLUE)
        yield from axis.plot([100 * a.estimate for a in alone], at, "o", color=BLUE)
        for y, i in enumerate(order):
            says = f"{pool.experts[i][:22]}  {100 * held[i] / max(held.sum(), 1):.0f}%"
            yield axis.text(-0.02, y, says, transform=by_row, ha="right", va="center", parse_math=False)
            yield axis.axhline(y, color="#dddddd", linewidth=0.6, zorder=0.5)

    def _settings(self, points: Sequence[Point]) -> Iterator[Artist]:
        """Square and interval of this setting, dots of the earlier ones."""
        axis, (*earlier, here) = self.right, points
        costs, accuracies = [p.cost for p in earlier], [100 * p.accuracy.estimate for p in earlier]
        yield from axis.plot(costs, accuracies, "o", color="#bbbbbb")
        low, at, high = (
            100 * value for value in (here.accuracy.low, here.accuracy.estimate, here.accuracy.high)
        )
        yield from axis.plot([here.cost, here.cost], [low, high], color=ORANGE)
        yield from axis.plot(here.cost, at, "s", color=ORANGE)


def of_kind(found: WhatIf) -> dict[str, Bools]:
    """Which test questions are of each of `KINDS`, in the order of `found.question_ids`."""
    pool = found.outcomes
    rows = pool.rows("test")
    given = np.where(found.chosen >= 0, pool.answer[rows[:, None], np.maximum(found.chosen, 0)], -2)
    differs = (given >= -1) & (given != given[:, :1])
    some = pool.correct[rows].any(axis=1)
    return {
        "all": np.ones(len(rows), dtype=bool),
        "wrong": ~found.correct,
        "right": found.correct,
        "lost": ~found.correct & some,
        "split": differs.any(axis=1),
    }


def evidence(pool: Outcomes, question_id: str) -> pd.DataFrame:
    """How often each expert was right on validation questions that share a skill with this one.

    Columns: expert, skill, right, n; in the order of the question's skills.
    """
    named = pool.skills.loc[pool.skills["question_id"] == question_id, "skill"]
    rows = pool.rows("validation")
    ids = pool.questions.index[rows]
    frames = []
    for skill in dict.fromkeys(named):
        carrying = rows[ids.isin(pool.skills.loc[pool.skills["skill"] == skill, "question_id"])]
        right, n = pool.correct[carrying].sum(axis=0), pool.ran[carrying].sum(axis=0)
        frames.append(pd.DataFrame({"expert": pool.experts, "skill": skill, "right": right, "n": n}))
    return pd.concat(frames) if frames else pd.DataFrame(columns=["expert", "skill", "right", "n"])


def answers_html(found: WhatIf, question_id: str, texts: Texts | None = None) -> str:
    """Why these experts, and who said what: one question as HTML, with everything escaped."""
    pool = found.outcomes
    asked = found.explain(question_id)
    row, at = pool.questions.index.get_loc(question_id), found.question_ids.get_loc(question_id)
    question = pool.questions.loc[question_id]
    seen = evidence(pool, question_id)
    seen["says"] = seen["skill"] + " " + seen["right"].astype(str) + "/" + seen["n"].astype(str)
    why = seen.groupby("expert")["says"].agg(", ".join).to_dict()
    slots = asked.groupby("expert")["slot"].agg(lambda slot: ", ".join(str(i + 1) for i in slot))
    relevance = asked.drop_duplicates("expert").set_index("expert")["relevance"]
    others = [name for name in pool.experts if name not in slots.index]
    lines = []
    for expert in [*dict.fromkeys(asked["expert"]), *others]:
        i = pool.experts.index(expert)
        said = pool.said[row, i]
        number = relevance.get(expert, np.nan)
        shown = "" if pd.isna(number) else f"{number:.2f}"
        answer = _no_answer(str(pool.status[row, i])) if said is None else escape(_short(str(said)))
        mark = "&#10003;" if pool.correct[row, i] else "&#10007;"
        cells = [slots.get(expert, ""), escape(expert), shown, escape(why.get(expert, "")), answer, mark]
        style = "" if expert in slots.index else ' style="opacity:0.55"'
        lines.append(f"<tr{style}>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    skills = escape(", ".join(dict.fromkeys(seen["skill"])) or "none on record")
    said_by = [said for said, won in zip(asked["answer"], asked["won"], strict=True) if won]
    final = escape(_short(str(said_by[0]))) if said_by else "<i>none</i>"
    verdict = "right" if found.correct[at] else "wrong"
    heads = ("call", "expert", "chosen by", "right on validation, by skill", "answer", "")
    head = "".join(f"<th>{text}</th>" for text in heads)
    return (
        f"<p><b>{escape(question_id)}</b> ({escape(str(question['subject']))}); skills: {skills}</p>"
        f"{_preformatted(str(question['text']))}"
        f"<p>Answer: <b>{final}</b>, {verdict} ({found.votes[at]} of {len(asked)} calls); "
        f"gold: <b>{escape(_short(str(question['gold'])))}</b></p>"
        f'<table class="skillmoe-who"><tr>{head}</tr>{"".join(lines)}</table>'
        f"{_written(question_id, list(slots.index), texts)}"
    )


def _written(question_id: str, experts: Sequence[str], texts: Texts | None) -> str:
    """What the experts asked wrote, folded away."""
    found = [(name, texts(question_id, name)) for name in experts] if texts else []
    return "".join(
        f"<details><summary>{escape(name)} wrote</summary>{_preformatted(text)}</details>"
        for name, text in found
        if text
    )


def _preformatted(text: str) -> str:
    style = "white-space:pre-wrap; max-height:16em; overflow:auto; margin:0.3em 0"
    return f'<pre style="{style}">{escape(text)}</pre>'


def _no_answer(status: str) -> str:
    return f"<i>none ({escape(status.replace('_', ' '))})</i>"


def _short(text: str, most: int = 80) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


class Opened(NamedTuple):
    """The outcomes of a pool, and what its experts wrote (None if no texts are kept)."""

    outcomes: Outcomes
    texts: Texts | None


def opened(report: str, *, store: str, recording: str = "", n_validation: int = 0) -> Opened:
    """A finished chain report under `reports/`, or a recording (`recorded.load`) in its place.

    `store` is the folder of the report's generations. `n_validation` splits the questions of a recording
    anew, that many into validation; 0: as recorded.
    """
    if not recording:
        kept = paths.project_file(store) / "vllm"
        if not kept.is_dir():  # answers are in the report; costs and texts stay unknown
            return Opened(from_report(report), None)
        generations = GenerationStore(kept)
        return Opened(from_report(report, generations), texts_of(report, generations))
    read = recorded.load(recording)
    found = from_recorded(read.questions, read.answers, n_validation=n_validation, left_out=read.missing)
    wrote = read.answers.drop_duplicates(["question_id", "expert"]).set_index(["question_id", "expert"])[
        "text"
    ]
    known = wrote.dropna().to_dict()
    return Opened(found, lambda question_id, expert: known.get((question_id, expert), ""))


def texts_of(report: str, store: GenerationStore) -> Texts:
    """What each expert wrote in answer to each test question of a chain report, read when it is asked for."""
    file = paths.project_root() / "reports" / report / "tables" / "scores_test.parquet"
    scores = tables.read(file, tables.SCORES)
    ids = scores.drop_duplicates(["question_id", "expert"]).set_index(["question_id", "expert"])["request_id"]

    def text(question_id: str, expert: str) -> str:
        request_id = ids.get((question_id, expert), "")
        generation = store.get([request_id]).get(request_id)
        return generation.text if generation else ""

    return text
