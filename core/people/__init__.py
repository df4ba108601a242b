"""People: what is kept of contacts and accounts, which segments they are in, and which definitions ask for it."""
