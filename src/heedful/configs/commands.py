"""Every command of heedful, and what its words set in the config of its recipe."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from types import ModuleType
from typing import Any

from heedful.configs import online, policy, preference, q_learning
from heedful.configs.common import Method, refuse_missing, refuse_unread, unread
from heedful.errors import UserError, did_you_mean
from heedful.tagged import compose

# command → (module under heedful, one line of help)
COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("recipes.init", "make a workspace, where people's answers are kept"),
    "serve": ("web.serve", "the raters' and the lead's pages in the browser"),
    "iterate": (
        "recipes.iterate",
        "sample, ask people, refit, optimise, and go round: CONFIG.yaml",
    ),
    "import": ("recipes.ingest", "files of ours and of other tools → a workspace"),
    "export": ("recipes.export", "a workspace → files that trainers read, with a manifest"),
    "guidelines": ("recipes.guidelines", "what raters read beside a question: [FILE.md]"),
    "suggest": ("recipes.suggest", "what a model thinks better, beside questions, and its effect"),
    "people": ("recipes.people", "accounts: who there is, new passwords, pausing"),
    "move": ("recipes.move", "a workspace's database → another: SQLite ⇄ PostgreSQL"),
    "check": ("recipes.check", "is everything in a workspace accounted for and unchanged?"),
    "backup": ("recipes.backup", "a workspace → one file, verified, while people work in it"),
    "restore": ("recipes.restore", "such a file → a workspace"),
    "demo": ("recipes.demo", "the whole loop on the embedded world, ending in report.html"),
    "world": ("recipes.world", "write a world's texts, demonstrations and prompts"),
    "train pretrain": ("recipes.pretrain", "raw text → a language model"),
    "train sft": ("recipes.sft", "demonstrations → a model that responds"),
    "train distil": ("recipes.distil", "a context, or a larger teacher, → the model's weights"),
    "train reward": ("recipes.reward_model", "comparisons → a reward model"),
    "train attributes": (
        "recipes.attributes",
        "ratings on axes, verdicts by rule → a reward model with a head each",
    ),
    "train ilql": ("recipes.ilql", "logged episodes → a policy steered by what tokens are worth"),
    "train decision": ("recipes.decision", "logged episodes → a policy that plays for a return"),
    "train tamer": ("recipes.tamer", "key presses, live or at clips → a player of a game"),
    "train segments": ("recipes.segments", "clips that were compared → a player of a game, by PPO"),
    "merge": ("recipes.merge", "an adapter and its base → one whole model"),
    "sample": ("recipes.sample", "prompts → responses, best of n if asked"),
    "judge": ("recipes.judge", "responses → comparisons by simulated raters"),
    "revise": (
        "recipes.revise",
        "responses criticised and written anew by principles: what train sft learns",
    ),
    "critique": (
        "recipes.critique",
        "a critic says what is wrong with responses, and whether a judge decides better for it",
    ),
    "score": ("recipes.score", "add rewards to responses"),
    "evaluate": ("recipes.evaluate", "gold scores, KL and win rate on held-out prompts"),
    "evaluate reward": ("recipes.evaluate_reward", "how often a reward finds the better response"),
    "canaries": (
        "recipes.canaries",
        "secrets planted in training data, and whether a model remembers them",
    ),
    "compare": ("recipes.compare", "several methods over seeds at equal cost: CONFIG.yaml"),
    "compare rewards": (
        "recipes.compare_rewards",
        "forms of reward models by cross-validation, beside length and n-grams",
    ),
    "overoptimisation": (
        "recipes.overoptimisation",
        "how far a reward can be trusted, by gold or a second reward",
    ),
    "facts": ("recipes.facts", "what answers claim, whether it is so, and comparisons by that"),
    "cues": ("recipes.cues", "conversations → replies rewarded by what the user said next"),
    "raters": ("recipes.raters", "who can be relied on, their habits, what to do: [COMPARISONS]"),
    "choose": ("recipes.choose", "samples → the pairs that are worth asking people about"),
    "prompts": (
        "recipes.prompts",
        "which prompts are hard or dated, unanswered ones too: [COMPARISONS]",
    ),
    "pluralism": ("recipes.pluralism", "groups of users, and whom one reward for all overrides"),
    "profile": ("recipes.profile", "somebody's few answers → a sentence that a policy reads"),
    "biases": (
        "recipes.biases",
        "what predicts preference: length, lists, agreement, place: [COMPARISONS]",
    ),
    "baselines": ("recipes.baselines", "what simple rules reach on comparisons"),
    "doctor": (
        "recipes.doctor",
        "what is wrong with a model, its template and data: MODEL [DATA]",
    ),
    "chat": ("recipes.chat", "talk to a model"),
    "endpoint": ("recipes.endpoint", "a model over the OpenAI API, for other programs: MODEL"),
    "clips": ("recipes.clips", "games → clips that people compare or press keys at"),
    "play": ("recipes.play", "play an environment in the terminal: a demonstration"),
    "new": ("recipes.new", "a template of your own: new env NAME"),
    "reproduce": (
        "reproductions.reproduce",
        "published claims made again, with a verdict: [NAME|all]",
    ),
    "plan": ("recipes.plan", "what a run will need on GPUs, and what to change: CONFIG.yaml"),
    "report": ("recipes.report", "folders of runs → one HTML page: curves, samples, alarms"),
}

# Commands that work in a workspace, or write what is in one.
WORKSPACES = {
    "init", "serve", "iterate", "import", "export", "guidelines", "suggest", "people", "check", "backup", "restore",
    "move", "demo",
}  # fmt: skip

# The methods of `heedful train`, by what they learn from → the modules of `configs` whose `METHODS` do.
GROUPS: dict[str, tuple[ModuleType, ...]] = {
    "prompts and a reward → a better policy, kept near by KL": (policy, online, q_learning),
    "comparisons → a better policy, directly": (preference,),
}


def methods(*of: ModuleType) -> dict[str, tuple[ModuleType, Method]]:
    """Name → the module of its config, and what it sets; of these modules, or of all."""
    modules = of or [module for group in GROUPS.values() for module in group]
    return {name: (module, m) for module in modules for name, m in module.METHODS.items()}


def find(name: str, where: str, *of: ModuleType) -> tuple[ModuleType, Method]:
    """The method of a name; UserError with the nearest one. `where` begins the sentence."""
    known = methods(*of)
    if name not in known:
        raise UserError(f"{where} '{name}' is unknown{did_you_mean(name, known)}")
    return known[name]


@dataclass(frozen=True)
class Command:
    """A command: where it is, the module of its config, what its help says, and the flat fields that its name sets."""

    name: str
    module: str
    flags: ModuleType
    sets: Mapping[str, Any]
    help: str

    @property
    def private(self) -> bool:
        """Whether it works in a workspace, whose files only their owner may read."""
        return self.name in WORKSPACES

    @property
    def idle(self) -> set[str]:
        """Fields that nothing reads beside what the name sets, which its help therefore leaves out."""
        reasons = getattr(self.flags, "unread", None)
        if not self.sets or reasons is None:
            return set()
        kind = self.flags.Config
        needed = {f.name: "" for f in fields(kind) if f.default is f.default_factory is MISSING}
        return set(reasons(compose(kind, {**needed, **self.sets})))


def command(name: str) -> Command:
    """The command of this name, such as `train dpo`; UserError with the nearest one where there is none."""
    if name in COMMANDS:
        module = COMMANDS[name][0]
        flags = f"heedful.configs.{module.rpartition('.')[2]}"
        return Command(name, module, importlib.import_module(flags), {}, COMMANDS[name][1])
    known = methods()
    if (method := name.removeprefix("train ")) in known and method != name:
        flags, sets = known[method][0], known[method][1].sets
        module = f"recipes.{flags.__name__.rpartition('.')[2]}"
        return Command(name, module, flags, sets, known[method][1].help)
    names = [*COMMANDS, *(f"train {method}" for method in known)]
    raise UserError(f"there is no command '{name}'{did_you_mean(name, names)}; see heedful --help")


def named(command: Command, config: Any) -> Any:
    """The config with the command's name in it, where it is one that is saved."""
    has = any(f.name == "command" for f in fields(config))
    return replace(config, command=command.name) if has else config


def refuse(command: Command, config: Any) -> None:
    """All that can be said against a config before anything heavy is imported."""
    refuse_unread(config, command.sets, unread(command.flags, config))
    getattr(command.flags, "refuse_nonsense", lambda config: None)(config)
    refuse_missing(config)
