"""Projects, their settings and the guidelines that raters read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, Table, select

from heedful.errors import UserError, did_you_mean
from heedful.store.database import audit
from heedful.store.database.db import insert
from heedful.store.database.prepared import prepared
from heedful.store.kinds.checks import MAX_NUMBER
from heedful.store.project import screens, versions
from heedful.store.tables.schema import guideline_version, project, suggestion, task
from heedful.store.tables.suggestions import model_critique

PROBABILITIES = (
    "gold_rate", "swap_rate", "order_by_chance", "qualification_share", "alert_hasty", "alert_gold", "alert_place",
    "alert_drop", "alert_pace", "suggestions_hidden", "critiques_hidden",
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """How a project asks."""

    access: str = "everybody"
    """Whom it is open to: everybody in the workspace, or members, by themselves or through a group."""
    training_questions: int = 0
    """Gold questions that each rater is asked first and told the answer of, with the explanation if it has one."""
    qualification_questions: int = 0
    """Gold questions that each rater is asked before the real work; 0: none."""
    qualification_share: float = 0.8
    """The share of these that must be right."""
    lease_minutes: float = 30.0
    """How long a task stays with a rater who does not answer."""
    order: str = "random"
    """random: another order for each rater; priority: the highest score first."""
    order_by_chance: float = 0.0
    """By priority: the chance that the next question is drawn from all that are left instead, to measure by."""
    gold_rate: float = 0.1
    """The chance that a rater's next task is one whose answer is known."""
    swap_rate: float = 0.03
    """The chance that a pair is asked again the other way round, to measure consistency and position bias."""
    daily_limit: int = 0
    """Answers a rater may give in 24 hours; 0: no limit."""
    total_limit: int = 0
    """Answers a rater may give in this project; 0: no limit."""
    skips_until_parked: int = 3
    """So many skips set a task aside for the lead."""
    flags_an_hour: int = 20
    """So many flags of a rater in an hour set tasks aside; more are kept and set nothing aside. 0: no limit."""
    skips_an_hour: int = 60
    """So many skips of a rater in an hour count towards setting a task aside. 0: no limit."""
    alert_seconds: float = 1.0
    """An answer within so many seconds is one that nobody can have read for; 0: no alert."""
    alert_hasty: float = 0.2
    """The lead is alerted where more of a rater's answers are such, for certain."""
    alert_gold: float = 0.7
    """Alerted where a rater has less of the gold questions right, for certain; 0: never."""
    alert_place: float = 0.7
    """Alerted where the response in the same place wins more of a rater's pairs, for certain; 0: never."""
    alert_drop: float = 0.1
    """Alerted where agreement has fallen by more, for certain; 0: never."""
    alert_pace: float = 0.25
    """Alerted where a rater takes less than this share of the others' time, for certain; 0: never."""
    alert_silence: float = 3.0
    """Alerted where answers are wanted and nobody has given one for so many days; 0: never."""
    cost_per_hour: float = 0.0
    """What an hour of a rater's time costs, in the lead's currency, where the rater has no price of their own."""
    questions: tuple[dict[str, Any], ...] = ()
    """What raters are asked on one screen, in order, see store.screens; none: what an import says."""
    suggestions: str = ""
    """Whose suggestions raters see, by the name under which `heedful suggest` has kept them; empty: nobody's."""
    suggestions_hidden: float = 0.2
    """The chance that a suggestion stays hidden, so that its effect on raters can be measured."""
    critiques: str = ""
    """Whose critiques of responses raters can ask for, by the name under which they are kept; empty: nobody's."""
    critiques_hidden: float = 0.2
    """The chance that none can be asked for, so that their effect on raters can be measured."""
    profiles: str = ""
    """The folder of `heedful pluralism` from which people's profiles are made of their answers; empty: none are."""
    dismissed: tuple[dict[str, Any], ...] = ()
    """Alerts that the lead does not want to see for a while: what, rater (or null) and at, see web.alerts."""
    models: tuple[str, ...] = ()
    """Models that raters talk to in tasks of the kind chat; two of the same one are two samples."""
    talk_tokens: int = 256
    """Tokens that a reply in a conversation has at most."""
    talk_temperature: float = 1.0
    """At which replies are sampled."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            # Not infinite, not NaN, and no number that the clock or the database could not take.
            if isinstance(value, int | float) and not abs(value) <= MAX_NUMBER:
                raise UserError(f"{name} must be at most {MAX_NUMBER}")
        for name in PROBABILITIES:
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} is a probability, not {getattr(self, name)}")
        if self.access not in ("everybody", "members"):
            raise UserError(f"access must be everybody or members, not {self.access!r}")
        if self.order not in ("random", "priority"):
            raise UserError(f"order must be random or priority, not {self.order!r}")
        if not self.lease_minutes > 0:
            raise UserError(f"lease_minutes must be above 0, not {self.lease_minutes}")
        if (
            not 0
            <= min(asked := (self.training_questions, self.qualification_questions))
            <= max(asked)
            <= 1000
        ):
            raise UserError("training and qualification have 0 to 1000 questions")
        limits = (self.daily_limit, self.total_limit, self.flags_an_hour, self.skips_an_hour)
        if min(*limits, self.cost_per_hour, self.alert_seconds, self.alert_silence) < 0:
            raise UserError("limits and costs cannot be negative")
        if self.skips_until_parked < 1:
            raise UserError("skips_until_parked must be at least 1")
        if self.talk_tokens < 1 or self.talk_temperature < 0:
            raise UserError("talk_tokens must be at least 1, and talk_temperature not negative")
        if not all(
            isinstance(d, dict) and d.keys() == {"what", "rater", "at"} for d in self.dismissed
        ):
            raise UserError("each dismissed alert has what, rater and at")
        for name in self.models:
            # Models are folders or names on the Hugging Face hub; an address could point anywhere.
            # What cannot be printed (NUL, halves of characters) no path has.
            if not (isinstance(name, str) and name.strip() and name.isprintable()) or "://" in name:
                raise UserError(f"a model is a folder or a name on the hub, not {name!r}")


DEFAULTS = vars(Settings())


def settings_from(values: dict[str, Any], *, stored: bool = False) -> Settings:
    """Settings from JSON; unknown names and wrong types are errors. Those that are `stored` have been checked: a kind
    of question may have gone with its package since."""
    for name, value in values.items():
        if name not in DEFAULTS:
            raise UserError(f"unknown setting '{name}'{did_you_mean(name, DEFAULTS)}")
        expected = type(DEFAULTS[name])
        fits = isinstance(value, (list, tuple) if expected is tuple else expected)
        if not (fits or (expected is float and type(value) is int)) or type(value) is bool:
            raise UserError(
                f"the setting {name} must be of type {expected.__name__}, not {value!r}"
            )
    settings: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
    }
    if settings.get("questions") and not stored:
        settings["questions"] = tuple(screens.checked_list(settings["questions"]))
    return Settings(**settings)


def create(
    connection: Connection, name: str, settings: Settings | None = None, *, actor: str | None = None
) -> str:
    """A new project; returns its id."""
    if not name.strip():
        raise UserError("a project needs a name")
    if by_name(connection, name):
        raise UserError(f"there is a project '{name}' already")
    key = insert(connection, project, name=name, settings=asdict(settings or Settings()))
    audit.record(connection, actor, "project.create", project=key, name=name)
    return key


def by_name(connection: Connection, name: str) -> Row | None:
    return connection.execute(select(project).where(project.c.name == name)).first()


def name_of(connection: Connection, project_id: str) -> str:
    return connection.execute(select(project.c.name).where(project.c.id == project_id)).scalar_one()


def ensure(connection: Connection, name: str) -> str:
    """The id of the project with this name, made if there is none."""
    row = by_name(connection, name)
    return row.id if row else create(connection, name)


def asking(connection: Connection) -> list[Row]:
    """The projects that ask raters, by name: {id, name}."""
    there = (project.c.archived_at.is_(None), project.c.deleted_at.is_(None))
    query = select(project.c.id, project.c.name).where(*there)
    return list(connection.execute(query.order_by(project.c.name)))


def settings_of(connection: Connection, project_id: str) -> Settings:
    row = _settings(connection, project_id).first()
    if row is None:
        raise UserError("there is no such project")
    return settings_from(row.settings, stored=True)


@prepared
def _settings(project_id: str) -> Select:
    there = (project.c.id == project_id, project.c.deleted_at.is_(None))
    return select(project.c.settings).where(*there)


def change(
    connection: Connection, project_id: str, values: dict[str, Any], *, actor: str | None
) -> Settings:
    """Merge `values` into the settings."""
    checked = settings_from(values)
    for name, table, told in (
        (checked.suggestions, suggestion, "suggested nothing"),
        (checked.critiques, model_critique, "criticised nothing"),
    ):
        if name and not _has_told(connection, table, project_id, name):
            raise UserError(f"'{name}' has {told} here; see heedful suggest")
    before = asdict(settings_of(connection, project_id))
    new = {name: getattr(checked, name) for name in values}
    settings = settings_from(before | new, stored=True)
    connection.execute(
        project.update().where(project.c.id == project_id).values(settings=asdict(settings))
    )
    audit.record(connection, actor, "project.settings", project=project_id, changed=values)
    return settings


def _has_told(connection: Connection, table: Table, project_id: str, source: str) -> bool:
    theirs = (task.c.project == project_id, table.c.source == source)
    query = select(table.c.id).join(task, task.c.id == table.c.task).where(*theirs)
    return connection.execute(query.limit(1)).first() is not None


def write_guidelines(
    connection: Connection, project_id: str, body: str, *, actor: str | None
) -> str:
    """A new version, unless the newest says the same. Raters see it from their next question on, and each assignment
    remembers which version was shown with it."""
    key, is_new = versions.write(connection, guideline_version, project_id, body)
    if is_new:
        audit.record(connection, actor, "guidelines.write", project=project_id, version=key)
    return key


def guidelines(connection: Connection, project_id: str) -> Row | None:
    """The newest version, which raters are shown."""
    return versions.newest(connection, guideline_version, project_id)


def newest_guidelines(connection: Connection, project_id: str) -> str | None:
    """Its id alone."""
    return versions.newest_id(connection, guideline_version, project_id)
