"""The protocol of OpenAI-compatible servers: what requests ask for, what is answered, and a server that does it."""
