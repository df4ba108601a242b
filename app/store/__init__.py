"""Read model: what the public topics said, in SQL. SQLite by default (WAL), PostgreSQL by URL; never the source of anything.

Read `tables` (what is kept), `engine` (opening one), `write` (its only writer: the project role), `queries` and
`trace` (what the API, the command line and Grafana ask). Delete it and it is made again from the log.
"""

from app.store.engine import Store, StoreError, open_store
from app.store.write import Writer

__all__ = ["Store", "StoreError", "Writer", "open_store"]
