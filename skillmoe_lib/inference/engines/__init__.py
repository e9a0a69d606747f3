"""Engines load a model and generate. Notebooks select one by name."""

from skillmoe_lib.errors import unknown
from skillmoe_lib.generation import Engine

#: What `connect` knows.
ENGINES = ("vllm", "replay", "scripted")


def connect(name: str) -> Engine:
    """The engine of that name.

    `vllm` generates on this machine; `replay` generates nothing: it serves analyses of what the store
    has, on machines without an engine; `scripted` writes texts of the right form without meaning, to try
    things out.
    """
    match name:
        case "vllm":
            from skillmoe_lib.inference.engines.vllm import VLLMEngine

            return VLLMEngine()
        case "replay":
            from skillmoe_lib.inference.engines.replay import ReplayEngine

            return ReplayEngine()
        case "scripted":
            from skillmoe_lib.inference.engines.scripted import demo

            return demo()
    raise unknown("engine", name, ENGINES)
