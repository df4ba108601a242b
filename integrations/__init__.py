"""Hands: how a command looks to an outside system. No I/O, no clock, no environment.

Read `base` (what a request, a response and an integration are), then one of them (`webhook`), then `catalogue`, the list:
an integration exists if it stands there. `hands` is what DELIVER asks of all of them together.
"""
