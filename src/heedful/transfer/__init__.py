"""Files ⇄ a workspace: imports, exports with their manifests, and `db:` as a source of data."""
