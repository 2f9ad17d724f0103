"""SQLite: rows in, rows out. Knows nothing of programs or models. No pickle anywhere."""
