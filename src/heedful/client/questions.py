"""A project's questions, looked through and acted upon; projects renamed, archived, deleted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from heedful.client.calls import Values
from heedful.client.files import Files

Action = Literal["withdraw", "put_back", "set_aside", "overlap", "ask_again"]


class Questions(Files):
    def questions(self, project: str, **filters: Any) -> Values:
        """{tasks, next}: a page of the questions that match, the newest first.

        Filters: text, state, rater, answer, differ, where (a list of KEY=VALUE), model; `after` and `limit` for pages.
        """
        return self._call("GET", f"/api/projects/{project}/questions", params=filters)

    def all_questions(self, project: str, **filters: Any) -> Iterator[Values]:
        """All that match, page by page."""
        after = None
        while True:
            page = self.questions(project, **filters, **({"after": after} if after else {}))
            yield from page["tasks"]
            if not (after := page["next"]):
                return

    def count_questions(self, project: str, **filters: Any) -> Values:
        """{total, models}: how many match."""
        return self._call("GET", f"/api/projects/{project}/questions/count", params=filters)

    def question(self, task: str) -> Values:
        """A question with its whole history, `events`."""
        return self._call("GET", f"/api/tasks/{task}")

    def environments(self, project: str) -> Values:
        """{envs}: what people can be asked to play."""
        return self._call("GET", f"/api/projects/{project}/plays")

    def ask_to_play(self, project: str, env: str, **options: Any) -> Values:
        """{tasks}: how many are new; options: tasks, first, overlap, max_turns."""
        return self._call("POST", f"/api/projects/{project}/plays", {"env": env, **options})

    def compare_plays(self, project: str, overlap: int = 1) -> Values:
        """{tasks}: how many questions are new, each of which asks which of two plays of one task is better."""
        return self._call("POST", f"/api/projects/{project}/plays/compare", {"overlap": overlap})

    def play_on(self, assignment: str, said: str | None = None) -> Values:
        """{turns, html, tools, over}: say something in a play of yours, or look at where it stands."""
        body = {} if said is None else {"said": said}
        return self._call("POST", f"/api/assignments/{assignment}/play", body)

    def ask_to_break_rules(
        self, project: str, rules: Sequence[Mapping[str, str]], **options: Any
    ) -> Values:
        """{tasks}: how many questions are new, one for each rule, {code, text}: people talk with the project's model
        and try to make it break the rule; options: system, talks, min_turns, max_turns."""
        body = {"rules": list(rules), **options}
        return self._call("POST", f"/api/projects/{project}/probes", body)

    def broken_rules(self, project: str) -> Values:
        """{rules, used, most}: how often those who tried have made which model break which rule, with intervals."""
        return self._call("GET", f"/api/projects/{project}/probes")

    def act_on_questions(
        self,
        project: str,
        action: Action,
        *,
        tasks: Sequence[str] | None = None,
        filter: Mapping[str, Any] | None = None,
        number: int | None = None,
        expect: int | None = None,
    ) -> Values:
        """{tasks, answers, left_out}. `tasks`, or all that match a `filter`; `expect`: only if so many do."""
        body = {"action": action, **_chosen(tasks, filter), "number": number, "expect": expect}
        return self._call("POST", f"/api/projects/{project}/questions/act", body)

    def export_questions(
        self,
        project: str,
        path: str | Path,
        *,
        tasks: Sequence[str] | None = None,
        filter: Mapping[str, Any] | None = None,
        what: str = "judgments",
    ) -> Values:
        """What was said of these questions, to a file and its manifest; returns the manifest."""
        body = {"what": what, "format": self._format(path), **_chosen(tasks, filter)}
        return self._keep(f"/api/projects/{project}/questions/export", Path(path), body=body)

    def rename_project(self, project: str, name: str) -> Values:
        return self._call("PATCH", f"/api/projects/{project}", {"name": name})

    def archive_project(self, project: str, archived: bool = True) -> Values:
        """Hide it from raters and lists, or show it again."""
        return self._call("PATCH", f"/api/projects/{project}", {"archived": archived})

    def delete_project(self, project: str, name: str) -> Values:
        """Hide it from everybody; `name` is its name once more. Nothing is removed, see `restore_project`."""
        return self._call("POST", f"/api/projects/{project}/delete", {"name": name})

    def restore_project(self, project: str) -> Values:
        return self._call("POST", f"/api/projects/{project}/restore", {})


def _chosen(tasks: Sequence[str] | None, filter: Mapping[str, Any] | None) -> Values:
    return {"tasks": None if tasks is None else list(tasks), "filter": filter and dict(filter)}
