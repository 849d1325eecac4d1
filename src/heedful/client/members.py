"""Members of projects, groups of people, how raters stand before the real work, and alerts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from heedful.client.calls import Values
from heedful.client.training import Training

Role = Literal["rater", "reviewer", "lead"]


class Members(Training):
    def members(self, project: str) -> Values:
        """Whom the project is open to, its members and groups, and how its raters stand before the real work."""
        return self._call("GET", f"/api/projects/{project}/members")

    def change_member(
        self, project: str, who: str, role: Role | None = None, paused: bool | None = None
    ) -> Values:
        """Give somebody a role there, or pause them there; `who` is an id or a pseudonym, for owners a login."""
        body = {"who": who, "role": role, "paused": paused}
        return self._call("PUT", f"/api/projects/{project}/members", body)

    def remove_member(self, project: str, rater: str) -> Values:
        return self._call("DELETE", f"/api/projects/{project}/members/{rater}")

    def dismiss_alert(self, project: str, what: str, rater: str | None = None) -> Values:
        """Say nothing of an alert for a week; no rater: one about the whole project."""
        body = {"what": what, "rater": rater}
        return self._call("POST", f"/api/projects/{project}/alerts/dismiss", body)

    def settle_qualification(
        self, project: str, rater: str, what: Literal["again", "pass"] = "again"
    ) -> Values:
        """Another try for who has failed, or `pass`: let them in."""
        path = f"/api/projects/{project}/members/{rater}/qualification"
        return self._call("POST", path, {"what": what})

    def take_out(self, project: str, rater: str, withdrawn: bool = True) -> Values:
        """Nothing that somebody has said there is exported any more, and they are not asked; False: again."""
        path = f"/api/projects/{project}/members/{rater}/withdrawn"
        return self._call("PUT", path, {"withdrawn": withdrawn})

    def withdrawn(self, project: str) -> Values:
        """{held}: the exports, files and runs that withdrawn answers are still in, and what to do with each."""
        return self._call("GET", f"/api/projects/{project}/withdrawn")

    def give_to_group(self, project: str, group: str, role: Role = "rater") -> Values:
        """Everybody in the group has this role in the project."""
        return self._call("PUT", f"/api/projects/{project}/groups", {"group": group, "role": role})

    def take_from_group(self, project: str, group: str) -> Values:
        return self._call("DELETE", f"/api/projects/{project}/groups/{group}")

    def alerts(self, project: str) -> list[Values]:
        """What the newest answers say that somebody ought to look at, each with its interval and threshold."""
        return self._call("GET", f"/api/projects/{project}/alerts")

    def groups(self) -> list[Values]:
        return self._call("GET", "/api/groups")

    def make_group(self, name: str) -> Values:
        return self._call("POST", "/api/groups", {"name": name})

    def rename_group(self, group: str, name: str) -> Values:
        return self._call("PATCH", f"/api/groups/{group}", {"name": name})

    def delete_group(self, group: str) -> Values:
        return self._call("DELETE", f"/api/groups/{group}")

    def join_group(self, group: str, who: Sequence[str]) -> Values:
        """Add people by their ids or pseudonyms, for owners by their logins."""
        return self._call("PUT", f"/api/groups/{group}/members", {"who": list(who)})

    def leave_group(self, group: str, rater: str) -> Values:
        return self._call("DELETE", f"/api/groups/{group}/members/{rater}")

    def lesson(self, assignment: str) -> Values:
        """What a training question teaches, once it is answered: {right, ranks, explanation}."""
        return self._call("GET", f"/api/assignments/{assignment}/lesson")

    def disconnect_sign_on(self) -> Values:
        """Only the password opens one's account from now on."""
        return self._call("DELETE", "/api/identity")
