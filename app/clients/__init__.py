"""Clients: the only room that opens sockets to the outside and reads secrets. `Clients` fills `rooms.outside`.

`guard` decides which addresses may be reached, `http` and `mail` make one attempt each and turn every error into a value,
`topics` knows which topics exist, `secrets` resolves references at the moment of sending.
"""
