"""The database itself: opened, migrated, copied, moved and checked; its transactions, limits and audit log."""
