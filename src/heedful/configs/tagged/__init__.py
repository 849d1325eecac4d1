"""The parts that policy-gradient methods are composed of, small frozen dataclasses with their own knobs.

What a part computes is its call; it reaches for `losses`, and so for PyTorch, only then. `heedful.tagged` has how they
become flags.
"""
