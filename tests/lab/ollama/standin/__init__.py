"""The stand-in itself, which runs on inference hosts with their own Python and what its archive brings."""
