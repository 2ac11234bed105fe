"""The HTTP door: sign-in, collections, documents, search and questions."""
