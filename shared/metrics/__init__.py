"""What a process counts of itself, for Prometheus. How the whole queue stands is read at each scrape: `standing`.

Every label has few values, known beforehand or named by the operator: dialects, models, pools, error codes. No uid,
account, address or prompt is ever one. Seconds and bytes, as Prometheus wants them.
"""

from typing import Final

from prometheus_client import Counter, Histogram

#: From what a cache answers to what a large picture takes on a CPU, in seconds.
LONG_S: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
#: Stages of one job, in seconds.
STAGE_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
#: Requests, the long ones that wait for a job among them, in seconds.
REQUEST_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
COUNTS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)

# --- API ---------------------------------------------------------------------------------------------------------

HTTP_REQUESTS: Final = Counter(
    "darkroom_http_requests", "Requests answered, by the part of the API and the status.", ["surface", "status"]
)
HTTP_SECONDS: Final = Histogram(
    "darkroom_http_request_seconds", "From a request to the head of its answer.", ["surface"], buckets=REQUEST_S
)
HTTP_ERRORS: Final = Counter(
    "darkroom_http_errors", "Requests that were refused or failed, by the error's code.", ["surface", "code"]
)

# --- the backlog, wherever its methods are called ----------------------------------------------------------------

SUBMITS: Final = Counter(
    "darkroom_submits", "Jobs accepted; an idempotent repeat is none.", ["dialect", "model", "priority"]
)
OUTCOMES: Final = Counter(
    "darkroom_outcomes",
    "Jobs ended, counted by whichever process ended them; `code` is the error's, empty where there is none.",
    ["dialect", "model", "status", "code"],
)
LEASES_LOST: Final = Counter(
    "darkroom_leases_lost",
    "Running jobs taken from a worker that went silent, restarted, or left while it held them.",
    ["why"],
)
BELLS_UNHEARD: Final = Counter("darkroom_bells_unheard", "Wake-ups that Celery's broker did not take.", ["task"])

# --- workers -----------------------------------------------------------------------------------------------------

WAIT_SECONDS: Final = Histogram(
    "darkroom_wait_seconds", "From a job's submission to its claim by a worker.", ["model", "priority"], buckets=LONG_S
)
RUN_SECONDS: Final = Histogram(
    "darkroom_run_seconds", "From a job's claim to its end.", ["model", "task", "status"], buckets=LONG_S
)
STAGE_SECONDS: Final = Histogram(
    "darkroom_stage_seconds", "Stages of a job that succeeded.", ["stage", "model"], buckets=STAGE_S
)
BATCH_JOBS: Final = Histogram("darkroom_batch_jobs", "Jobs claimed together.", buckets=COUNTS)
BATCH_IMAGES: Final = Histogram("darkroom_batch_images", "Images of jobs claimed together.", buckets=COUNTS)
IMAGES: Final = Counter("darkroom_images", "Images stored by jobs that succeeded.", ["model"])
CACHE_LOOKUPS: Final = Counter(
    "darkroom_cache_lookups", "How often a model, an asset or a prompt's embeddings were asked for.", ["cache"]
)
CACHE_MISSES: Final = Counter("darkroom_cache_misses", "Of these, how many had to be loaded or computed.", ["cache"])

# --- couriers ----------------------------------------------------------------------------------------------------

INGESTS: Final = Counter("darkroom_ingests", "Jobs whose images were fetched by URL, by how that went.", ["outcome"])
WEBHOOK_ATTEMPTS: Final = Counter(
    "darkroom_webhook_attempts", "Attempts at webhooks, by how they ended.", ["event", "outcome"]
)
WEBHOOK_SECONDS: Final = Histogram(
    "darkroom_webhook_call_seconds", "How long receivers took to answer, or not to.", buckets=REQUEST_S
)
WEBHOOK_LAG: Final = Histogram(
    "darkroom_webhook_lag_seconds", "From what a webhook tells to its delivery.", ["event"], buckets=LONG_S
)
