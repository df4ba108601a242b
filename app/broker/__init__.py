"""A real Apache Kafka from pip alone: a Java runtime in a wheel, the jars from Maven Central, once.

`Broker(directory)` manages one node in KRaft mode whose data survives restarts. No Docker, Java or Maven is needed.
"""

from app.broker.jars import KAFKA, JarsUnavailable, Progress, classpath
from app.broker.process import Broker, BrokerError, BrokerStatus, java
from app.broker.properties import Listener

__all__ = [
    "KAFKA",
    "Broker",
    "BrokerError",
    "BrokerStatus",
    "JarsUnavailable",
    "Listener",
    "Progress",
    "classpath",
    "java",
]
