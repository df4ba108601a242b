"""`uptake send`: a file's rows into Kafka, each exactly once, however often it is run or stopped."""

from app.send.files import BadFile, FileRows, Mapping
from app.send.run import Progress, SendOptions, Sent, send

__all__ = ["BadFile", "FileRows", "Mapping", "Progress", "SendOptions", "Sent", "send"]
