"""From a command to what became of it. Pure.

Read `dispatch` first (a command → deliveries, or a reason), then `deliver` (a delivery → attempts → an end). The parts:
`stages` and `routing` decide about a command, `ledger` remembers commands, `directory` looks connections up, `lanes` keeps
destinations apart, `retry` decides about an attempt that failed, `receipts` and `accounts` say what happened.
"""
