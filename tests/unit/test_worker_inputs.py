"""Jobs that draw from images: fetched, prepared, drawn by their task, and told of in the record."""

import hashlib
import io
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shared.spec import JobSpec, Task
from shared.storage import StoredObject
from tests.worker_rig import Rig
from worker import insist, parameters, prepare
from worker.batch import Work
from worker.pipelines.regions import region, zoomed_in, zoomed_out
from worker.pipelines.tasks import DRAW

#: diffusers' own ways with numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")

IMAGE_KEY, MASK_KEY = "inputs/handle/image.png", "inputs/handle/mask_image.png"


def png(colour, size=(96, 80)):
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "PNG")
    return stream.getvalue()


class Painter:
    """Stands in for the tasks' functions: answers with what it was given."""

    def __init__(self):
        self.calls = []
        self.watch = lambda: None

    def __call__(self, _model, spec, shots, *, on_step):
        self.calls.append((spec.task, shots))
        for _ in range(spec.steps_used * len(shots)):
            on_step()
        self.watch()
        return [shot.image for shot in shots]


@pytest.fixture
def painter(monkeypatch):
    painter = Painter()
    for task in (Task.IMAGE_TO_IMAGE, Task.INPAINT, Task.OUTPAINT):
        monkeypatch.setitem(DRAW, task, painter)
    return painter


@pytest.fixture
def rig(valkey, monkeypatch):
    monkeypatch.setattr(insist, "FIRST_PAUSE_S", 0.01)
    rig = Rig(valkey, one_by_one=False)
    rig.storage.objects[IMAGE_KEY] = StoredObject(png("red"), "image/png")
    rig.storage.objects[MASK_KEY] = StoredObject(png("white"), "image/png")
    return rig


def test_images_are_fetched_fitted_and_handed_to_their_task(rig, painter):
    uid = rig.submit(image=IMAGE_KEY, mask_image=MASK_KEY, strength=0.5, num_inference_steps=4, num_images=2)
    rig.runner.turn()
    ((task, shots),) = painter.calls
    assert task is Task.INPAINT
    assert [shot.seed for shot in shots] == [1, 2]
    for shot in shots:
        assert (shot.image.mode, shot.image.size, shot.image.getpixel((0, 0))) == ("RGB", (64, 64), (255, 0, 0))
        assert (shot.mask.mode, shot.mask.size, shot.mask.getpixel((0, 0))) == ("L", (64, 64), 255)
    job = rig.read(uid)
    assert str(job.status) == "succeeded"
    assert set(job.result.timings) == {"load", "prepare", "generate", "encode", "store"}


@pytest.mark.parametrize(("scheduler", "evaluations"), [("DDIMScheduler", 4), ("HeunDiscreteScheduler", 7)])
def test_progress_counts_what_runs(rig, painter, scheduler, evaluations):
    uid = rig.submit(image=IMAGE_KEY, strength=0.5, num_inference_steps=8, scheduler=scheduler)
    seen = []

    def watch():
        rig.heartbeat.beat()
        seen.append((rig.read(uid).step, rig.read(uid).steps))

    painter.watch = watch
    rig.runner.turn()
    assert seen == [(4, evaluations)]


@pytest.mark.parametrize(
    ("fields", "task"),
    [
        ({}, Task.IMAGE_TO_IMAGE),
        ({"mask_image": MASK_KEY}, Task.INPAINT),
        ({"mask_image": MASK_KEY, "outpainting": True}, Task.OUTPAINT),
    ],
)
def test_each_task_has_its_function(rig, painter, fields, task):
    rig.submit(image=IMAGE_KEY, **fields)
    rig.runner.turn()
    assert [drawn for drawn, _ in painter.calls] == [task]


def test_the_record_tells_the_images_apart_and_not_where_they_lie(rig, painter):
    uid = rig.submit(image=IMAGE_KEY, mask_image=MASK_KEY)
    rig.runner.turn()
    told = rig.read(uid).result.parameters
    assert told["image"] == f"sha256:{hashlib.sha256(png('red')).hexdigest()}"
    assert told["mask_image"] == f"sha256:{hashlib.sha256(png('white')).hexdigest()}"
    assert "handle" not in str(told)
    (stored,) = [item.data for key, item in rig.storage.objects.items() if key.startswith("results/")]
    assert IMAGE_KEY.encode() not in stored


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "image is not stored any more"),
        (b"nothing like it", "image must be a PNG or JPEG or WEBP picture"),
        (png("red")[:60], "image is cut short: no whole PNG picture"),
    ],
)
def test_an_image_that_cannot_be_used_fails_its_job_alone(rig, painter, data, message):
    del rig.storage.objects[IMAGE_KEY]
    if data is not None:
        rig.storage.objects[IMAGE_KEY] = StoredObject(data, "image/png")
    bad, good = rig.submit(image=IMAGE_KEY), rig.submit(image=MASK_KEY)
    rig.runner.turn()
    assert rig.statuses(bad, good) == ["failed", "succeeded"]
    assert rig.read(bad).result.error == {"code": "input_unusable", "message": message, "retryable": False}


def test_a_decoders_surprise_fails_its_job_alone(rig, painter, monkeypatch):
    def surprise(data):
        if data == png("red"):
            raise MemoryError("/secret/path")
        return Image.open(io.BytesIO(data))

    monkeypatch.setattr(prepare, "open_stored", surprise)
    bad, good = rig.submit(image=IMAGE_KEY), rig.submit(image=MASK_KEY)
    rig.runner.run(rig.claim())
    assert rig.delivery.drain(60)
    assert rig.statuses(bad, good) == ["failed", "succeeded"]
    assert rig.read(bad).result.error["code"] == "generation_failed"


def test_storage_that_is_away_is_waited_for_however_long(rig, painter, monkeypatch):
    monkeypatch.setattr(insist, "PATIENCE_S", 0.0)
    uid = rig.submit(image=IMAGE_KEY)
    leases = rig.claim()
    rig.storage.failures, rig.storage.well = 3, False
    rig.runner.run(leases)
    assert rig.delivery.drain(60)
    assert rig.statuses(uid) == ["succeeded"]


def test_storage_that_is_well_but_refuses_fails_the_job(rig, painter, monkeypatch):
    monkeypatch.setattr(insist, "PATIENCE_S", 0.0)
    uid = rig.submit(image=IMAGE_KEY)
    rig.storage.failures = 100
    rig.runner.turn()
    error = rig.read(uid).result.error
    assert (error["code"], error["retryable"]) == ("storage_unavailable", True)


def test_shutdown_hands_back_what_waits_for_its_image(rig, painter):
    uid = rig.submit(image=IMAGE_KEY)
    leases = rig.claim()
    rig.storage.failures = 10**9
    timer = threading.Timer(0.1, rig.stopping.set)
    timer.start()
    rig.runner.run(leases)
    timer.join()
    assert rig.statuses(uid) == ["queued"]
    assert painter.calls == []


def test_a_job_that_was_cancelled_waits_no_longer_for_its_image(rig, painter):
    uid = rig.submit(image=IMAGE_KEY)
    leases = rig.claim()
    rig.storage.failures = 10**9
    timer = threading.Timer(0.1, rig.cancel, [uid])
    timer.start()
    rig.runner.run(leases)
    timer.join()
    assert rig.statuses(uid) == ["cancelled"]
    assert painter.calls == []


def test_jobs_with_other_images_share_a_call(rig, painter):
    rig.storage.objects["inputs/other/image.png"] = StoredObject(png("blue"), "image/png")
    uids = [rig.submit(image=key) for key in (IMAGE_KEY, "inputs/other/image.png")]
    rig.runner.run(rig.claim())
    assert rig.delivery.drain(60)
    ((_, shots),) = painter.calls
    assert [shot.image.getpixel((0, 0)) for shot in shots] == [(255, 0, 0), (0, 0, 255)]
    assert rig.statuses(*uids) == ["succeeded"] * 2


def test_without_strength_no_step_runs(rig, painter):
    uid = rig.submit(image=IMAGE_KEY, strength=0)
    rig.runner.turn()
    job = rig.read(uid)
    assert (str(job.status), job.steps) == ("succeeded", 0)
    assert job.result.parameters["strength"] == 0


def told(**fields):
    spec = JobSpec(prompt="x", model="demo", seed=1, **fields)
    return parameters.effective(spec, {"scheduler": "DDIMScheduler"})


def test_what_has_no_effect_without_an_image_is_not_told():
    alone = told(strength=0.4, inpaint_full_res=True, inpaint_full_res_padding=9, clip_skip=0)
    assert alone == told()


def test_what_counts_with_an_image_is_told():
    plain = {"strength": 0.8}
    assert told(image=IMAGE_KEY).items() - told().items() == plain.items()
    masked = {"image": IMAGE_KEY, "mask_image": MASK_KEY, "inpaint_full_res_padding": 9}
    assert told(**masked).items() - told().items() == {"strength": 1.0}.items()
    full = {"strength": 1.0, "inpaint_full_res": True, "inpaint_full_res_padding": 9}
    assert told(**masked, inpaint_full_res=True).items() - told().items() == full.items()
    out = {"strength": 1.0, "outpainting": True}
    assert told(**masked, inpaint_full_res=True, outpainting=True).items() - told().items() == out.items()


def test_how_the_text_was_read_is_told():
    read = {"clip_skip": 2, "prompt_weighting": "a1111"}
    assert told(**read).items() - told().items() == read.items()


def test_other_tools_find_strength_and_clip_skip():
    image = parameters.of_image(told(image=IMAGE_KEY, strength=0.25, clip_skip=1), seed=1)
    text = parameters.as_text(image, model_hash="abc")
    assert text.endswith("Model hash: abc, Model: demo, Denoising strength: 0.25, Clip skip: 2")


def test_timings_name_what_was_done(rig):
    rig.submit()
    (lease,) = rig.claim()
    assert set(Work(lease).timings) == {"generate"}


sides = st.integers(8, 40)


@st.composite
def masks(draw):
    width, height = draw(sides), draw(sides)
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    right, bottom = draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height))
    mask = Image.new("L", (width, height))
    mask.paste(255, (left, top, right, bottom))
    return mask


@given(mask=masks(), padding=st.integers(0, 20))
def test_a_region_holds_its_mask_and_keeps_the_proportions(mask, padding):
    width, height = mask.size
    left, top, right, bottom = region(mask, padding)
    inner = mask.getbbox()
    assert 0 <= left <= max(0, inner[0] - padding)
    assert 0 <= top <= max(0, inner[1] - padding)
    assert width >= right >= min(width, inner[2] + padding)
    assert height >= bottom >= min(height, inner[3] + padding)
    assert abs((right - left) / width - (bottom - top) / height) <= 1 / min(width, height)


def test_what_is_zoomed_in_comes_back_to_its_place():
    image = Image.radial_gradient("L").convert("RGB")
    box = (40, 64, 168, 192)
    closer = zoomed_in(image, box, resample=Image.Resampling.LANCZOS)
    assert closer.size == image.size
    back = zoomed_out(closer, box, over=Image.new("RGB", image.size))
    assert back.getbbox() == box
    difference = [abs(a - b) for a, b in zip(back.crop(box).tobytes(), image.crop(box).tobytes(), strict=True)]
    assert max(difference) <= 8
