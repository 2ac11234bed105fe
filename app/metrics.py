"""Every number the application shows to Prometheus, by the program that shows it; docs/operations.md explains each."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10, 20, 30, 60, 120)

API = CollectorRegistry()
WORKER = CollectorRegistry()
INDEX = CollectorRegistry()


def _seconds(name: str, says: str, registry: CollectorRegistry, labels: tuple[str, ...] = ()) -> Histogram:
    return Histogram(name, says, labels, buckets=_SECONDS, registry=registry)


REQUESTS = Counter("rag_requests_total", "Requests by route and status.", ["method", "route", "status"], registry=API)
REQUEST_SECONDS = _seconds("rag_request_seconds", "Time to the end of the response.", API, ("route",))
SIGN_INS = Counter(
    "rag_sign_ins_total",
    "Sign-ins by outcome: accepted, refused, shed; with a provider also unreachable, forged.",
    ["outcome"],
    registry=API,
)
# Each process counts all of them, so the last count is the right one.
ACTIVE_USERS = Gauge(
    "rag_active_users", "People with a request in the last five minutes.", registry=API, multiprocess_mode="mostrecent"
)

QUESTIONS = Counter(
    "rag_questions_total",
    "Questions by outcome: supported, refused, busy, failed, cancelled.",
    ["outcome"],
    registry=API,
)
FIRST_TOKEN_SECONDS = _seconds("rag_first_token_seconds", "Time from question to first word.", API)
ANSWER_SECONDS = _seconds("rag_answer_seconds", "Time from question to checked answer.", API)
UNRECORDED = Counter(
    "rag_questions_unrecorded_total", "Questions whose record was lost for want of a primary.", registry=API
)
LATER_LOST = Counter(
    "rag_later_lost_total", "Small writes lost for want of a primary, by what they were.", ["what"], registry=API
)

PROMPT_RATIO = Histogram(
    "rag_prompt_estimate_ratio",
    "Tokens of a prompt as estimated, by those that the model counted; below 1 a prompt may be cut.",
    buckets=(0.5, 0.7, 0.9, 1, 1.1, 1.3, 1.6, 2, 3),
    registry=API,
)
CUT_PROMPTS = Counter(
    "rag_prompts_cut_total", "Answers thrown away because the model had not read the whole prompt.", registry=API
)
FEEDBACK = Counter("rag_feedback_total", "What askers thought of answers: up, down.", ["verdict"], registry=API)
LIMITED = Counter(
    "rag_requests_limited_total", "Requests turned away for their person's number of them.", ["kind"], registry=API
)
COUNTED_HERE = Counter(
    "rag_requests_counted_here_total", "Requests counted by one process alone.", ["kind"], registry=API
)

DATABASE_LEFT_OUT = Gauge(
    "rag_database_left_out",
    "1 while a process leaves this server out, since it shows too little or says nothing.",
    ["server"],
    registry=API,
    multiprocess_mode="livemax",
)

SEARCH_SECONDS = _seconds("rag_search_seconds", "Time of one search, both halves and fusion.", API)
VECTOR_SECONDS = _seconds("rag_search_vector_seconds", "Time of the search in the vectors' index.", API)
QUESTION_SECONDS = _seconds("rag_search_embedding_seconds", "Time to have a question embedded, its wait included.", API)
LEXICAL_SECONDS = _seconds("rag_search_lexical_seconds", "Time of the search by words.", API)
SEARCH_DEGRADED = Counter(
    "rag_search_degraded_total", "Searches without one of their halves.", ["missing"], registry=API
)
RERANKED = Counter(
    "rag_searches_reranked_total", "Rerankings by outcome: ordered, unclear, late.", ["outcome"], registry=API
)

MODEL_FIRST_TOKEN_SECONDS = _seconds(
    "rag_model_first_token_seconds", "Time from a model's call to its first word.", API
)
MODEL_SECONDS = _seconds("rag_model_seconds", "Time of a model's whole answer.", API)
MODEL_TOKENS = Counter(
    "rag_model_tokens_total", "Tokens by direction: in (prompts), out (answers).", ["direction"], registry=API
)
IN_FLIGHT = Gauge(
    "rag_inference_in_flight", "Calls to inference hosts now.", ["kind"], registry=API, multiprocess_mode="livesum"
)
WAITING = Gauge(
    "rag_inference_waiting", "Calls that wait for a place now.", ["kind"], registry=API, multiprocess_mode="livesum"
)
SHED = Counter("rag_inference_shed_total", "Calls turned away because too many were in flight.", ["kind"], registry=API)

DOCUMENTS = Counter(
    "rag_documents_total", "Documents finished by outcome: indexed, failed, retried.", ["outcome"], registry=WORKER
)
PASSAGES = Counter("rag_passages_embedded_total", "Passages embedded.", registry=WORKER)
EMBED_SECONDS = _seconds("rag_embed_batch_seconds", "Time of one batch of embeddings.", WORKER)
JOBS = Gauge(
    "rag_jobs",
    "Documents on the queue: due, paused, held, lapsed (their worker fell silent).",
    ["state"],
    registry=WORKER,
)
REEMBED_PASSAGES = Gauge(
    "rag_reembed_passages",
    "Passages that the new embedding model has to do, by the worker that leads.",
    registry=WORKER,
)
REEMBED_DONE = Gauge("rag_reembed_passages_done", "Passages with a vector of the new embedding model.", registry=WORKER)
PURGED = Counter("rag_questions_purged_total", "Questions deleted for their age.", registry=WORKER)
OLDEST_JOB_SECONDS = Gauge("rag_job_oldest_seconds", "How long the job that is due for longest waits.", registry=WORKER)

APP_HOST_SILENT_SECONDS = Gauge(
    "rag_app_host_silent_seconds",
    "How long ago each app host told how far its index is; after 600 it is left out of where a document is searchable.",
    ["host"],
    registry=WORKER,
)

INDEX_LAG = Gauge("rag_index_lag_changes", "Changes this host's index has still to apply.", registry=INDEX)
INDEX_MODEL_LAG = Gauge(
    "rag_index_model_lag_changes", "The same for the vectors of each embedding model.", ["model"], registry=INDEX
)
INDEX_MODEL_FILLED = Gauge(
    "rag_index_model_filled", "1 while this host's index holds all vectors of the model.", ["model"], registry=INDEX
)
INDEX_APPLIED = Counter("rag_index_applied_total", "Changes applied to this host's index.", registry=INDEX)
INDEX_REFILLS = Counter("rag_index_refills_total", "Times this host's index was filled from nothing.", registry=INDEX)
INDEX_ORPHANS = Gauge(
    "rag_index_orphans_total", "Vectors without a passage that the last comparison removed.", registry=INDEX
)
INDEX_MISSING = Gauge(
    "rag_index_missing_total", "Passages without a vector that the last comparison put back.", registry=INDEX
)
INDEX_SEEN = Gauge(
    "rag_index_last_success_timestamp_seconds", "When the index was last in step or moved forward.", registry=INDEX
)

for _registry in (WORKER, INDEX):
    ProcessCollector(registry=_registry)
