"""Why, or why not: a rule or workflow, a subject, a moment → what was seen, what every predicate said, what became of it.

`ask` answers, `findings` for rules that wake on figures, `events` for those that wake on what subjects did, `runs` for workflows;
`sources` reads the read model, state topics and logs. Nothing here asks a worker: it works while all of them are down.
"""

from app.why.ask import why
from app.why.sources import CannotTell, Question, Sources

__all__ = ["CannotTell", "Question", "Sources", "why"]
