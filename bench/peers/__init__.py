"""Other stream processors doing the work W on the same events. Each is run as a process of its own and writes its result.

W: parse; per (feature, minute) count, exact distinct users, sum and maximum of the latency; per user count and last seen;
state durable by the tool's own means. A result is a JSON object: `rows`, `seconds` and `cpu_s` from the first row on,
`groups` [[feature, minute, count, users, latency sum, latency max]…] and `users` [[user, count, last seen ms]…].
"""
