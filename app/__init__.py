"""The RAG application: three processes (API, worker, index follower) over one PostgreSQL database."""
