"""Files are read while another model generates, and never more than memory has room for."""

import copy
import threading
from types import SimpleNamespace

import psutil
import pytest

from skillmoe_lib.generation import Message, Model, Request, Sampling
from skillmoe_lib.inference import schedule
from skillmoe_lib.inference.engines import read_ahead
from skillmoe_lib.inference.engines.read_ahead import ReadAhead
from skillmoe_lib.inference.engines.scripted import ScriptedEngine
from skillmoe_lib.inference.engines.vllm import VLLMEngine
from skillmoe_lib.inference.store import GenerationStore


@pytest.fixture
def reads(monkeypatch):
    """The names of the files that were read."""
    found = []
    monkeypatch.setattr(read_ahead, "_read", lambda files, stop: found.extend(file.name for file in files))
    return found


def weights(folder, name="a"):
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.safetensors").write_bytes(bytes(1000))
    (folder / "config.json").write_text("{}")
    return folder


def test_weights_are_read_once_until_others_are(tmp_path, reads):
    ahead = ReadAhead()
    one, two = weights(tmp_path / "one", "a"), weights(tmp_path / "two", "b")
    for folder in (one, one, two, one, tmp_path / "missing"):
        ahead.begin(folder)
    ahead.end()
    ahead.begin(one)
    ahead.end()
    assert reads == ["a.safetensors", "b.safetensors", "a.safetensors", "a.safetensors"]


def test_what_would_fill_the_memory_is_not_read(tmp_path, reads, monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1900))
    ahead = ReadAhead()
    ahead.begin(weights(tmp_path / "one"))
    ahead.end()
    assert reads == []


def test_reading_ends_when_it_is_stopped_and_an_unreadable_file_is_left_to_the_load(tmp_path):
    folder = weights(tmp_path / "one")
    stop = threading.Event()
    read_ahead._read([folder / "missing", *folder.glob("*.safetensors")], stop)
    stop.set()
    read_ahead._read(list(folder.glob("*.safetensors")), stop)
    ahead = ReadAhead()
    ahead.begin(folder)
    ahead.end()
    assert not [thread for thread in threading.enumerate() if thread.name == "read ahead"]


def test_an_engine_that_reads_nothing_can_be_sent_to_a_cluster():
    assert copy.deepcopy(VLLMEngine()).stall_s == VLLMEngine().stall_s  # copied as Ray copies it


class Expecting(ScriptedEngine):
    """Remembers which model it was told to expect during each load."""

    told = ()

    def expect(self, model):
        type(self).told += ((self.loads[-1], model.source),)


def test_the_engine_hears_which_model_comes_next(tmp_path):
    models = [Model(name, "1") for name in "ABC"]

    def program(n):
        asked = [
            Request("solve", str(i), m.source, m, (Message("user", f"{i}"),), Sampling())
            for m, times in zip(models, (3, 1, 2), strict=True)
            for i in range(times)
        ]
        yield asked
        return n

    engine = Expecting(lambda request: request.id)
    schedule.run({0: program(0)}, engine, GenerationStore(tmp_path))
    assert engine.loads == ["A", "C", "B"]
    assert engine.told == (("A", "C"), ("C", "B"))
