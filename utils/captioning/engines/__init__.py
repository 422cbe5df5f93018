"""The engines that run models. Adding one: a module here and its line in this table (docs/add_an_engine.md).

Importing this loads none of their libraries: each module imports its own where an engine is opened.
"""

from utils.captioning.engine_choice import EngineOptions
from utils.captioning.engines.openai_engine import OpenAIOptions
from utils.captioning.engines.transformers_engine import TransformersOptions
from utils.captioning.engines.vllm_engine import VllmOptions

ENGINES: dict[str, type[EngineOptions]] = {
    "transformers": TransformersOptions,
    "vllm": VllmOptions,
    "openai": OpenAIOptions,
}
