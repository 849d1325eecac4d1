"""Who there is, how they sign in, and who may do what in which project."""
