"""The GPU side: Celery workers that claim batches, run diffusers pipelines and deliver the results."""
