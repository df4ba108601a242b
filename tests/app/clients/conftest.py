"""The mail server, for the tests of this folder."""

from tests.helpers.smtp import smtp

__all__ = ["smtp"]
