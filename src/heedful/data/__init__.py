"""Files ⇄ types, chat templates → tokens, collation and packing."""
