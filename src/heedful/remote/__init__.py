"""Asking somebody over the network: an OpenAI-compatible server, or a function of the user's, within limits."""
