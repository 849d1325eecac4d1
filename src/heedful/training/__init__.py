"""Policy-gradient methods as rows of a table: advantage × surrogate × KL × average; their estimates and losses."""
