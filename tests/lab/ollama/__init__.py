"""A stand-in for Ollama where its own archive cannot be fetched: same layout, same API, real small models."""
