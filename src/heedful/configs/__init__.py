"""What each command takes: its `Config`, what a method sets in it, and what nobody can mean. Imports nothing heavy.

`configs/sft.py` has the flags of the recipe `sft.py`; help and a mistake are told from it alone. Besides `Config`, a
module may have `METHODS` (name → help and the fields that it sets), `unread(config)` (field → why nothing reads it)
and `refuse_nonsense(config)`, which raises UserError.
"""
