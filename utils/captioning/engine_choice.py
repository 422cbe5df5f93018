"""Which engine runs which model, and how: built from flags by a script and passed down."""

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

from utils.captioning.answer_checks import CHECKS
from utils.captioning.chat import Engine, Sampling
from utils.captioning.model_table import hub_id, known_model
from utils.captioning.prompts import FOLDER as PROMPTS
from utils.captioning.prompts import checked_utf8, text_of
from utils.cli import about, at_least, flag, option_settings
from utils.models.weights import snapshot
from utils.pipeline.ancestry import setting_of_existing, settings_of
from utils.workers.ranks import Ranks

WITHOUT_MODEL = ("attributes", "none")  # captioners and summarizers that are no engine

# Flags that the engines in this process share.
dtype_flag = partial(
    flag,
    "auto",
    "dtype of the weights (transformers, vllm); auto: as stored on a GPU, float32 on a CPU",
    choices=("auto", "bfloat16", "float16", "float32"),
    setting=True,
)
trust_remote_code_flag = partial(flag, False, "run Python code shipped with the model (transformers, vllm)")


@dataclass(frozen=True)
class AnswerOptions:
    """the same for every engine"""

    max_new_tokens: int = flag(256, "maximum length of an answer", at_least(1))
    temperature: float = flag(0.0, "sampling temperature; 0 means greedy decoding", at_least(0, float))
    seed: int = flag(0, "base sampling seed; each request derives its own from it", int)
    answer_checks: Sequence[str] = flag(
        list(CHECKS),
        "checks of each answer; a rejected answer is retried once with other sampling, then becomes an error row",
        str,
        CHECKS,
    )
    chat_template: str | None = flag(
        None, "Jinja file, for a model without a chat template, or to replace the model's own"
    )


def with_existing_checks(options: AnswerOptions, saved_path: str, overwrite: bool) -> AnswerOptions:
    """`options`, with the default checks replaced by those of the existing result file: a file made with fewer checks keeps them."""
    checks = setting_of_existing(saved_path, overwrite, "answer_checks", None)
    if not isinstance(checks, str) or list(options.answer_checks) != list(CHECKS):
        return options
    return replace(options, answer_checks=[name for name in checks.split() if name in CHECKS])


def replaces_placeholders(saved_path: str, setting: str, engine: str) -> bool:
    """Whether a result file was made without a model, as its `setting` says (captioner, summarizer), and is now to be made otherwise: it cost
    nothing, so it is replaced, where the captions of another model are kept until --overwrite.
    """
    before = settings_of(saved_path).get(setting)
    if engine == before or before not in WITHOUT_MODEL:
        return False
    print(f"{saved_path} was made without a model ({setting} {before}): recomputing it with {engine}")
    return True


class EngineOptions(Protocol):
    """An engine, declared: a frozen dataclass whose fields are its flags (`utils.cli.flag`). Its docstring's first line
    heads them in --help.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]
    packages: ClassVar[tuple[str, ...]]  # the version of the first installed one is a setting of the results
    jpeg: ClassVar[bool]  # whether images come as JPEG files (bytes) in place of uint8 arrays (H, W, 3)

    def check(self, model: str) -> None:
        """Look for mistakes in the flags and in the name of the model, before anything is loaded.

        Raises: `UsageError`, which callers head with the flag of the model; `about` heads it with another.
        """

    def open(self, choice: "EngineChoice", ranks: Ranks) -> Engine:
        """The engine with its model loaded.

        Raises: `UsageError`, as `check`.
        """


@dataclass(frozen=True)
class EngineChoice:
    """`engine`: a name in the table of engines, whose flags are `options`; `model`: its name as the user gave it;
    `images`: the maximum in one request; a server's log is beside `saved_path`.
    """

    engine: str
    model: str
    options: EngineOptions
    answers: AnswerOptions
    saved_path: str
    images: int = 0

    def settings(self) -> dict:
        """What the answers depend on, for the settings of the result file. Loads no model.

        Raises: `UsageError` where engine, model and flags do not go together.
        """
        checked_utf8(self.model)
        self.options.check(self.model)
        with about("--chat_template"):
            template = text_of(self.answers.chat_template) if self.answers.chat_template else None
        return {
            "model": self.model,
            "engine": " ".join(filter(None, [self.engine, _version(self.options.packages)])),
            "max_new_tokens": self.answers.max_new_tokens,
            "temperature": self.answers.temperature,
            "seed": self.answers.seed,
            **option_settings(self.options),
            "chat_template": template,
            "answer_checks": " ".join(self.answers.answer_checks),
        }

    def sampling(self, schema: dict | None = None) -> Sampling:
        return Sampling(self.answers.max_new_tokens, self.answers.temperature, self.answers.seed, schema)

    def open(self, ranks: Ranks) -> Engine:
        """The engine with its model loaded.

        Raises: `UsageError` with a sentence: what cannot be had or run, and what can.
        """
        return self.options.open(self, ranks)

    def model_folder(self, runner: str, ranks: Ranks) -> Path:
        """The model's local folder for `runner`, an engine or a server; downloaded on rank 0 first.

        Raises: `UsageError`.
        """
        repository = hub_id(self.model, runner)
        return ranks.after_rank_0("model", lambda: snapshot(repository))

    def template_path(self) -> Path | None:
        """The chat template's file: the user's, or the table's for a model that comes without one."""
        file = known_model(self.model).get("chat_template")
        return Path(self.answers.chat_template) if self.answers.chat_template else PROMPTS / file if file else None

    def template_text(self) -> str | None:
        path = self.template_path()
        return text_of(path) if path else None


def _version(packages: Sequence[str]) -> str | None:
    """The version of the first of `packages` that is installed."""
    installed = (one.version for package in packages for one in importlib.metadata.distributions(name=package))
    return next(installed, None)
