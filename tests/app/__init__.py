"""The application against real PostgreSQL and Chroma servers, with a stand-in for Ollama."""
