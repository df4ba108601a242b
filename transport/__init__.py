"""Faust and Kafka, the only room that reaches inside them: whole stored batches in, transactional checkpoints out.

`app.make_app` makes a role's Faust app, `wires.KafkaWires` fills `agents.rooms.Wires`, `state.read_state` reads a
checkpointed state from anywhere. What is touched inside Faust and aiokafka, and which test guards it, is in
INTERNALS.md beside this file.
"""
