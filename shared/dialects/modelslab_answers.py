"""ModelsLab's answers: under way, done, failed, and `meta`, which tells what a picture was made with.

The keys and their order are the provider's; values are as used: `prompt` with what the enhancement added, `seed` as
drawn.
"""

from dataclasses import replace
from typing import Any, Final

from shared import styles
from shared.dialects.links import Links
from shared.enhance import enhance
from shared.job import Job, Status
from shared.spec import INPUT_PREFIX, JobSpec

#: How long a link to a picture with `temp` opens it.
TEMP_S: Final = 24 * 3600
#: For estimates of the wait: a worker is taken to need so long for 512 x 512 pixels and 30 steps.
NOMINAL_IMAGE_S: Final = 10.0
_NOMINAL_WORK: Final = JobSpec(prompt="x", width=512, height=512, num_inference_steps=30).work()

TIP: Final = "The picture is drawn in the background. Ask fetch_result for it, or send a webhook with the request."
UNDER_WAY: Final = "The request is being processed; its pictures come to fetch_result."

#: JobSpec's names for fields -> the provider's, where an error names one.
FIELD_NAMES: Final = {
    "image": "init_image",
    "num_images": "samples",
    "model": "model_id",
    "webhook_url": "webhook",
    "loras": "lora_model",
    "textual_inversions": "embeddings_model",
    "controlnets": "controlnet_model",
    "safety": "safety_checker",
}
#: JobSpec's name for the picture that ControlNets draw after, which may come in two fields.
STEERING: Final = "controlnets.0.image"


def success(job: Job, links: Links, output: list[str]) -> dict[str, Any]:
    """Return the answer of a job that succeeded."""
    return {
        "status": "success",
        "generationTime": _generation_s(job),
        "id": job.uid,
        "output": output,
        "meta": meta(job, links),
    }


def processing(job: Job, links: Links, *, fetch_result: str) -> dict[str, Any]:
    """Return the answer of a job that waits or runs. `messege` is the provider's own spelling; it sends both."""
    return {
        "status": "processing",
        "tip": TIP,
        "eta": _eta_s(job),
        "messege": UNDER_WAY,
        "message": UNDER_WAY,
        "webhook_status": "",
        "fetch_result": fetch_result,
        "id": job.uid,
        "output": [],
        "meta": meta(job, links),
    }


def failure(job: Job) -> dict[str, Any]:
    """Return the answer of a job that ended without pictures."""
    found = str((job.result.error or {}).get("message", f"The job was {job.status}."))
    field, colon, rest = found.partition(": ")
    names = {**FIELD_NAMES, STEERING: str(job.submission.option("steering"))}
    return {"status": "failed", "id": job.uid, "message": f"{names.get(field, field)}{colon}{rest}"}


def webhook(job: Job, links: Links) -> dict[str, Any]:
    """Return what the caller's webhook is sent: links always, for it goes to a server that can follow them."""
    track_id = job.submission.track_id
    if job.status is not Status.SUCCEEDED:
        return {**failure(job), "track_id": track_id}
    return {
        "status": "success",
        "id": job.uid,
        "output": output_links(job, links),
        "generationTime": _generation_s(job),
        "track_id": track_id,
        "meta": meta(job, links),
    }


def output_links(job: Job, links: Links) -> list[str]:
    """Return links to a job's pictures, saved by browsers as `<file_prefix>-<i>.png`."""
    lasting = _lasting(job, links)
    artifacts = enumerate(job.result.artifacts)
    return [lasting.image(artifact, name=f"{job.handle}-{index}").url for index, artifact in artifacts]


def meta(job: Job, links: Links) -> dict[str, Any]:
    """Return what the pictures are, or will be, made with."""
    spec = job.submission.spec
    prompt, negative_prompt = _prompts(spec)
    return {
        "prompt": prompt,
        "model_id": spec.model,
        "scheduler": job.result.parameters.get("scheduler", spec.scheduler),
        "safetychecker": "no" if spec.safety == "off" else "yes",
        "negative_prompt": negative_prompt,
        "W": spec.width,
        "H": spec.height,
        "guidance_scale": spec.guidance_scale,
        **_images(job, links),
        "steps": spec.num_inference_steps,
        "n_samples": spec.num_images,
        **({} if spec.image is None else {"strength": spec.strength_used}),
        "multi_lingual": "no",
        "full_url": "no",
        "upscale": "no",
        "seed": _seed(job),
        "outdir": "out",
        "file_prefix": job.handle,
    }


def _seed(job: Job) -> int | None:
    """Return the first picture's seed; those of the others follow."""
    if job.result.artifacts:
        return job.result.artifacts[0].seed
    seed = job.submission.spec.seed
    return seed[0] if isinstance(seed, tuple) else seed


def _prompts(spec: JobSpec) -> tuple[str, str]:
    prompts = spec.prompt, spec.negative_prompt
    if spec.style_preset is not None:
        prompts = styles.apply(spec.style_preset, *prompts)
    return enhance(*prompts) if spec.enhance_prompt else prompts


def _images(job: Job, links: Links) -> dict[str, str]:
    """Return links to our copies of the images that came in; until they are fetched, where they come from."""
    spec, lasting = job.submission.spec, _lasting(job, links)
    control = next((net.image for net in spec.controlnets), None)
    sources = {"init_image": spec.image, "mask_image": spec.mask_image, "control_image": control}
    return {
        name: lasting.file(key, filename=f"{job.handle}-{name}.png").url if key.startswith(INPUT_PREFIX) else key
        for name, key in sources.items()
        if key is not None
    }


def _lasting(job: Job, links: Links) -> Links:
    return replace(links, ttl_s=TEMP_S) if job.submission.option("temp") else links


def _generation_s(job: Job) -> float:
    if job.started_ms is None or job.finished_ms is None:
        return 0.0
    return (job.finished_ms - job.started_ms) / 1000


def _eta_s(job: Job) -> float:
    """Return the queue's estimate; else those before it are taken to be like this job, and none of them under way."""
    if job.eta_s is not None:
        return float(max(1, job.eta_s))
    whole = NOMINAL_IMAGE_S * job.submission.spec.work() / _NOMINAL_WORK
    left = 1 - job.step / job.steps if job.steps else 1.0
    return round(whole * ((job.position or 0) + left), 2)
