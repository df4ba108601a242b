"""Words: everything that travels between processes, as pydantic models (internal hot records as msgspec structs).

Imports nothing of ours. Read `envelope`, then `events`, `tables`, `detections`, `commands`, `delivery`,
`definitions`, and last `topics`, which says on which topic each of them travels.
"""
