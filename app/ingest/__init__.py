"""rag-worker: takes uploaded documents from the queue and makes them searchable."""
