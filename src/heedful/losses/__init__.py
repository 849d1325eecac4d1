"""Pure functions of tensors, unreduced: no model, no config, no I/O."""
