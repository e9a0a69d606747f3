"""Engines load a model and generate. Notebooks select one by name."""

from collections.abc import Mapping
from typing import Any

from skillmoe_lib.errors import unknown
from skillmoe_lib.experts.servers import Server
from skillmoe_lib.generation import Engine

#: What `connect` knows.
ENGINES = ("vllm", "ray", "openai", "replay", "scripted")


def connect(
    name: str, servers: Mapping[str, Server] | None = None, *, options: Mapping[str, Any] | None = None
) -> Engine:
    """The engine of that name.

    `vllm` generates on this machine, and asks the pool's `servers` for experts that name one; `ray` does the
    same on a cluster (RAY_ADDRESS names it), into the same store; `openai` asks servers only; `replay`
    generates nothing: it serves analyses of what the store has, on machines without an engine; `scripted`
    writes texts of the right form without meaning, to try things out. `options` are those of vLLM
    (`VLLMEngine.options`).
    """
    match name:
        case "vllm" | "ray":
            from skillmoe_lib.inference.engines.openai_server import OpenAIEngine
            from skillmoe_lib.inference.engines.ray_cluster import RayEngine
            from skillmoe_lib.inference.engines.vllm import VLLMEngine
            from skillmoe_lib.inference.engines.with_servers import WithServers

            local: Engine = VLLMEngine(options=options or {})
            local = RayEngine(local) if name == "ray" else local
            return WithServers(local, OpenAIEngine(servers)) if servers else local
        case "openai":
            from skillmoe_lib.inference.engines.openai_server import OpenAIEngine

            return OpenAIEngine(servers or {})
        case "replay":
            from skillmoe_lib.inference.engines.replay import ReplayEngine

            return ReplayEngine()
        case "scripted":
            from skillmoe_lib.inference.engines.scripted import demo

            return demo()
    raise unknown("engine", name, ENGINES)
