"""Thought: pure code. No Faust, no clock, no sockets; columns and values in, effects out.

Read `batch`, `effects` and `task` first: they are the words between `core` and `transport`.
`now` is always an argument (milliseconds since the epoch).
"""
