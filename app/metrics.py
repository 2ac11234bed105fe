"""Every number the application shows to Prometheus."""

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10, 20, 30, 60, 120)

REQUESTS = Counter("rag_requests_total", "Requests by route and status.", ["method", "route", "status"])
REQUEST_SECONDS = Histogram("rag_request_seconds", "Time to the end of the response.", ["route"], buckets=_SECONDS)
SIGN_INS = Counter("rag_sign_ins_total", "Sign-ins by outcome.", ["outcome"])

QUESTIONS = Counter("rag_questions_total", "Questions by outcome: supported, refused, busy, failed.", ["outcome"])
SEARCH_SECONDS = Histogram("rag_search_seconds", "Time of one search, both halves and fusion.", buckets=_SECONDS)
SEARCH_DEGRADED = Counter("rag_search_degraded_total", "Searches without one of their halves.", ["missing"])
FIRST_TOKEN_SECONDS = Histogram("rag_first_token_seconds", "Time from question to first word.", buckets=_SECONDS)
ANSWER_SECONDS = Histogram("rag_answer_seconds", "Time from question to checked answer.", buckets=_SECONDS)
UNRECORDED = Counter("rag_questions_unrecorded_total", "Questions whose record was lost for want of a primary.")
LATER_LOST = Counter("rag_later_lost_total", "Small writes lost for want of a primary, by what they were.", ["what"])
IN_FLIGHT = Gauge("rag_inference_in_flight", "Calls to inference hosts now.", ["kind"], multiprocess_mode="livesum")
SHED = Counter("rag_inference_shed_total", "Calls turned away because too many were in flight.", ["kind"])

DOCUMENTS = Counter("rag_documents_total", "Documents finished by outcome: indexed, failed, retried.", ["outcome"])
PASSAGES = Counter("rag_passages_embedded_total", "Passages embedded.")
EMBED_SECONDS = Histogram("rag_embed_batch_seconds", "Time of one batch of embeddings.", buckets=_SECONDS)
JOBS = Gauge("rag_jobs_waiting", "Documents on the queue.")

INDEX_LAG = Gauge("rag_index_lag_changes", "Changes this host's index has still to apply.")
INDEX_APPLIED = Counter("rag_index_applied_total", "Changes applied to this host's index.")
INDEX_REFILLS = Counter("rag_index_refills_total", "Times this host's index was filled from nothing.")
INDEX_SEEN = Gauge("rag_index_last_success_timestamp_seconds", "When the index was last in step or moved forward.")
