"""The logs of a run as its readers see them."""

from __future__ import annotations

import pytest

from heedful.data.logs import read_log
from heedful.errors import UserError
from heedful.run import alarms_of, metrics_of


def test_a_log_is_read_while_a_run_writes_it(tmp_path):
    """Mutation caught: half a last line that stops the reader, a whole one without a line feed that is lost, a run
    that has not begun, or has nothing to tell, as an error."""
    assert metrics_of(tmp_path) == alarms_of(tmp_path) == []
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"step": 1, "a": 2.0}\n\n{"step": 2, "a": NaN}\n{"step": 3, "a"')
    assert [row["step"] for row in metrics_of(tmp_path)] == [1, 2]
    log.write_text('{"step": 1}\n{"step": 2}')
    assert metrics_of(tmp_path) == [{"step": 1}, {"step": 2}]
    (tmp_path / "alarms.jsonl").write_text('{"step": 7, "alarm": "a\u2028b"}\n', encoding="utf-8")
    assert alarms_of(tmp_path) == [{"step": 7, "alarm": "a\u2028b"}]


@pytest.mark.parametrize("line", ['{"step": 1', "[1]", '{"step": true}', '{"loss": 1}'])
def test_a_broken_line_is_named(tmp_path, line):
    """Mutation caught: a line within that is dropped in silence, a step that is no number."""
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 0}}\n{line}\n{{"step": 2}}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2: "):
        read_log(tmp_path / "metrics.jsonl")
