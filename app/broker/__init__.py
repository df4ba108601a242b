"""A real Apache Kafka from pip alone: a Java runtime in a wheel, the jars from Maven Central, once.

`Broker(directory)` manages one node in KRaft mode whose data survives restarts, `Cluster(directory)` several that replicate
to each other. No Docker, Java or Maven is needed.
"""

from app.broker.cluster import Cluster
from app.broker.jars import KAFKA, JarsUnavailable, Progress, classpath
from app.broker.process import Broker, BrokerError, BrokerStatus, java
from app.broker.properties import Listener

__all__ = [
    "KAFKA",
    "Broker",
    "BrokerError",
    "BrokerStatus",
    "Cluster",
    "JarsUnavailable",
    "Listener",
    "Progress",
    "classpath",
    "java",
]
