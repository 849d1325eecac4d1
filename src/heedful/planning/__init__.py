"""What a run will need, before it is begun: memory by part, floating-point operations, messages, seconds."""
