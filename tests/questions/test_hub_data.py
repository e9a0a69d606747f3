"""Data sets of a hub on loopback, by the real clients (`datasets` and huggingface_hub)."""

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml
from hub_server import TOKEN, Hub, Repository, commit, in_use

from skillmoe_lib import hub as pins
from skillmoe_lib import questions
from skillmoe_lib.errors import SkillmoeError

SHA = commit("org/data")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    import datasets

    datasets.disable_progress_bars()
    monkeypatch.setenv("SKILLMOE_HOME", str(tmp_path))
    with in_use(monkeypatch, tmp_path / "cache") as hub:
        yield hub


def parquet(rows: list[dict]) -> bytes:
    written = io.BytesIO()
    pd.DataFrame(rows).to_parquet(written)
    return written.getvalue()


def jsonl(rows: list[dict]) -> bytes:
    return pd.DataFrame(rows).to_json(orient="records", lines=True).encode()


def csv(rows: list[dict]) -> bytes:
    return pd.DataFrame(rows).to_csv(index=False).encode()


def data(hub: Hub, mark: str = "", write=parquet, name: str = "org/data", **about: object) -> Repository:
    files, card = {}, []
    for split, n in {"train": 3, "test": 2}.items():
        rows = [{"q": f"{mark}{split} {i}?", "g": str(i)} for i in range(n)]
        files[f"data/{split}.{write.__name__}"] = write(rows)
        card.append({"split": split, "path": f"data/{split}.{write.__name__}"})
    configs = {"configs": [{"config_name": "default", "data_files": card}]}
    files["README.md"] = f"---\n{yaml.safe_dump(configs)}---\n".encode()
    return hub.add(Repository(name, files, "datasets", **about))


def benchmark(folder: Path, **about: object) -> Path:
    path = folder / "data" / "benchmarks" / "mine.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {"text": "q", "gold": "g"}
    content = {"source": "hub", "path": "org/data", "kind": "math", "columns": columns, "revision": SHA}
    parts = {"validation": {"split": "train"}, "test": {"split": "test"}}
    path.write_text(yaml.safe_dump({**content, **parts, **about}))
    return path


def texts(path: Path) -> list[str]:
    return sorted(questions.load(str(path))["text"])


def refused(path: Path) -> str:
    with pytest.raises(SkillmoeError) as error:
        questions.load(str(path))
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("data set org/data cannot be read: ")
    return str(error.value).removeprefix("data set org/data cannot be read: ")


EXPECTED = ["test 0?", "test 1?", "train 0?", "train 1?", "train 2?"]


@pytest.mark.parametrize("write", [parquet, jsonl, csv])
def test_every_form_of_data_set_is_read(hub: Hub, tmp_path: Path, write) -> None:
    data(hub, write=write)
    assert texts(benchmark(tmp_path)) == EXPECTED


def test_pinned_and_read_with_a_token_that_stays_with_the_hub(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd
) -> None:
    data(hub, gated=True)
    path = benchmark(tmp_path, revision="main", gated=True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with caplog.at_level(logging.DEBUG):
        assert pins.read_pins(pins.pin(str(path)))["org/data"].revision == SHA
        hub.repositories["datasets", "org/data"].sha = commit("a later one")
        assert texts(path) == EXPECTED
    at = {host: {seen.token for seen in hub.seen if seen.host == host} for host in ("hub", "cdn")}
    assert at == {"hub": {f"Bearer {TOKEN}"}, "cdn": {None}}
    printed = capfd.readouterr()
    assert TOKEN not in caplog.text + printed.out + printed.err
    written = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    assert len(written) > 5
    assert TOKEN.encode() not in b"".join(written)


def test_a_data_set_that_breaks_off_goes_on(hub: Hub, tmp_path: Path) -> None:
    data(hub)
    hub.breaks["data/train.parquet"] = [100]
    assert texts(benchmark(tmp_path)) == EXPECTED


def test_without_the_hub_the_cache_serves_the_commit_asked_for_and_no_other(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`datasets` by itself takes the newest commit that it has cached, whatever `revision` says."""
    older = commit("an older one")
    data(hub, "older ")
    assert texts(benchmark(tmp_path, revision=older))[0] == "older test 0?"
    data(hub)
    assert texts(benchmark(tmp_path)) == EXPECTED
    hub.repositories["datasets", "org/data"].fault = "broken"
    monkeypatch.setattr("time.sleep", lambda _: None)
    assert texts(benchmark(tmp_path, revision=older))[0] == "older test 0?"
    assert texts(benchmark(tmp_path)) == EXPECTED
    assert refused(benchmark(tmp_path, revision="1" * 40)) == "the hub answered 500: try again later"


@pytest.mark.parametrize(
    ("about", "token", "said"),
    [
        ({"gated": True}, "", f"gated: {pins.ACCEPT}"),
        ({"fault": "no_licence"}, TOKEN, f"gated: {pins.ACCEPT}"),
        ({"fault": "missing"}, "", "missing, private or gated: check the name"),
        ({"fault": "limited"}, "", "the hub answered 429: try again later"),
    ],
)
def test_a_refusal_is_one_line_that_says_what_to_do(
    hub: Hub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    about: dict[str, object],
    token: str,
    said: str,
) -> None:
    data(hub, **about)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr("time.sleep", lambda _: None)
    with caplog.at_level(logging.DEBUG):
        text = refused(benchmark(tmp_path))
    assert text.startswith(said)
    assert TOKEN not in text + caplog.text


def test_a_commit_that_is_gone(hub: Hub, tmp_path: Path) -> None:
    data(hub)
    gone = commit("gone")
    assert refused(benchmark(tmp_path, revision=gone)) == (
        f"its revision {gone!r} is gone: pin another with `python -m skillmoe_lib pin`"
    )


def test_a_split_that_is_not_there(hub: Hub, tmp_path: Path) -> None:
    data(hub)
    said = refused(benchmark(tmp_path, test={"split": "tset"}))
    assert said.startswith("check `path`, `name`, `split` and `revision` (")
    assert "tset" in said


def test_a_token_on_disk_is_not_used(hub: Hub, tmp_path: Path) -> None:
    data(hub, gated=True)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "token").write_text(TOKEN)
    assert refused(benchmark(tmp_path)).startswith("gated")
    assert {seen.token for seen in hub.seen} == {None}


def test_offline_and_away(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    data(hub)
    away = "the hub cannot be reached: connect to it (and unset HF_HUB_OFFLINE), or name a copy as `path`"
    with monkeypatch.context() as offline:
        offline.setattr(datasets.config, "HF_HUB_OFFLINE", True)
        offline.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        assert refused(benchmark(tmp_path)) == away
    assert hub.seen == []
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda _: None)
    assert refused(benchmark(tmp_path)) == away
