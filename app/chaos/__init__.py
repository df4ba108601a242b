"""Chaos on real Kafka: known data, faults on a seeded schedule, and a verdict by the oracle.

registry   the kinds of fault, each a name, what it is, and a context: entering it injects, leaving it heals
schedule   which fault when, from a seed
stage      what a fault may touch
feed       rows at a steady rate, through whatever producers the faults make of it
aim        stops a process in the phase that is asked for
verdict    what was published beside the oracle, and accounts that add up to zero
"""
