"""The tables of a workspace, their column types, and the triggers that keep some of them from ever changing."""
