"""The big read: rows out of PostgreSQL, again where it breaks off, by one process or several."""
