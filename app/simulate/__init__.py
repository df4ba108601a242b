"""A seeded world: people who use products, services that answer them, and what goes wrong with both.

Read `plan` (what there is), `draw` (what happens, as columns), `order` (in which order it arrives, twice, late, spoilt),
`encode` (as bytes), then the ends it goes to: `kafka` and `file`. `coverage` plans a cause for every state of the catalogue's
A and B, and `live` keeps pace with the clock.
"""
