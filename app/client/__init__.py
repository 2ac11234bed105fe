"""The platform for Python programs: a client of its API, what it gives, and how it says what cannot be done."""

from app.client.client import Client, sign_in
from app.client.transport import Problem, UnreachableError

__all__ = ["Client", "Problem", "UnreachableError", "sign_in"]
