"""Run folders to one self-contained HTML page: `build(folder)` reads results.json and writes report.html."""

from heedful.report.page import build

__all__ = ["build"]
