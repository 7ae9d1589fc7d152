"""Jobs with ControlNets, on a worker: what their pictures become, and what the record tells of them."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from shared.spec import ControlNet, Task
from shared.storage import StoredObject
from tests.worker_rig import Rig
from worker import parameters
from worker.controlnet.hints import hint
from worker.pipelines.tasks import DRAW

HINT_KEY, IMAGE_KEY, MASK_KEY = (f"inputs/handle/{name}.png" for name in ("controlnets.0.image", "image", "mask"))
BOX = (16, 16, 32, 32)


def png(image):
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def shapes(side=96):
    image = Image.new("RGB", (side, side), "white")
    image.paste("black", (side // 4, side // 4, side // 2, side // 2))
    return image


def box_mask():
    mask = Image.new("L", (64, 64))
    mask.paste(255, BOX)
    return mask


class Painter:
    """Stands in for the tasks' functions, and keeps what it was given."""

    def __init__(self):
        self.calls = []

    def __call__(self, _model, spec, shots, *, on_step):  # noqa: ARG002
        self.calls.append((spec, shots))
        return [Image.new("RGB", (spec.width, spec.height)) for _ in shots]


@pytest.fixture
def painter(monkeypatch):
    painter = Painter()
    for task in Task:
        monkeypatch.setitem(DRAW, task, painter)
    return painter


@pytest.fixture
def rig(valkey):
    rig = Rig(valkey, one_by_one=False)
    for key, image in ((HINT_KEY, shapes()), (IMAGE_KEY, Image.new("RGB", (64, 64), "red")), (MASK_KEY, box_mask())):
        rig.storage.objects[key] = StoredObject(png(image), "image/png")
    return rig


def draw(rig, painter, *nets, **fields):
    uid = rig.submit(controlnets=nets, **fields)
    rig.runner.turn()
    job = rig.read(uid)
    assert str(job.status) == "succeeded", job.result.error
    return job, painter.calls[-1][1]


def test_every_controlnet_that_works_gets_a_hint_of_the_jobs_size(rig, painter):
    nets = (
        ControlNet("canny", HINT_KEY),
        ControlNet("tile", HINT_KEY, scale=0),
        ControlNet("depth", IMAGE_KEY, preprocess=False),
    )
    _, shots = draw(rig, painter, *nets, num_images=2)
    fitted = shapes().resize((64, 64), Image.Resampling.LANCZOS)
    assert [shot.seed for shot in shots] == [1, 2]
    for shot in shots:
        first, second = shot.hints
        assert np.array_equal(first, hint(fitted, kind="canny"))
        assert (second == np.array([1, 0, 0], np.float32)).all()
        assert (shot.image, shot.mask) == (None, None)


def test_mates_in_a_batch_have_hints_of_their_own(rig, painter):
    uids = [rig.submit(controlnets=(ControlNet("ip2p", key),)) for key in (HINT_KEY, IMAGE_KEY)]
    rig.runner.turn()
    ((_, shots),) = painter.calls
    assert rig.statuses(*uids) == ["succeeded"] * 2
    assert not np.array_equal(shots[0].hints[0], shots[1].hints[0])


@pytest.mark.parametrize("full_res", [False, True])
def test_hints_are_made_of_what_is_painted(rig, painter, full_res):
    nets = (ControlNet("ip2p", HINT_KEY), ControlNet("inpaint", HINT_KEY))
    masked = {"image": IMAGE_KEY, "mask_image": MASK_KEY, "inpaint_full_res": full_res, "inpaint_full_res_padding": 8}
    _, shots = draw(rig, painter, *nets, **masked)
    whole, kept = shots[0].hints
    fitted = shapes().resize((64, 64), Image.Resampling.LANCZOS)
    left, top, right, bottom = (8, 8, 40, 40) if full_res else (0, 0, 64, 64)
    seen = fitted.crop((left, top, right, bottom)).resize((64, 64), Image.Resampling.LANCZOS)
    assert np.array_equal(whole, np.asarray(seen if full_res else fitted).astype(np.float32) / 255)
    painted = (kept == -1).all(axis=2)
    zoom = 2 if full_res else 1
    assert painted.sum() == (16 * zoom) ** 2
    assert np.array_equal(kept[~painted], whole[~painted])


def test_the_record_tells_those_that_work_and_what_they_draw_after(rig, painter):
    nets = (ControlNet("tile", HINT_KEY, scale=0), ControlNet("canny", HINT_KEY, 0.5, 0.1, 0.9))
    job, _ = draw(rig, painter, *nets, guess_mode=True)
    told = job.result.parameters
    digest = f"sha256:{hashlib.sha256(png(shapes())).hexdigest()}"
    assert told["controlnets"] == [
        {"name": "canny", "image": digest, "scale": 0.5, "start": 0.1, "end": 0.9, "preprocess": True}
    ]
    assert told["guess_mode"] is True
    assert "handle" not in str(told)
    assert not [name for name in told if name.startswith("controlnets.")]


def test_what_has_no_effect_is_not_told(rig, painter):
    job, shots = draw(rig, painter, ControlNet("canny", HINT_KEY, start=0.5, end=0.5), guess_mode=True)
    assert not {"controlnets", "guess_mode"} & set(job.result.parameters)
    assert shots[0].hints == ()
    assert parameters.of_image(job.result.parameters, seed=1)["seed"] == 1


@pytest.mark.parametrize(
    ("net", "stored", "message"),
    [
        (ControlNet("canny", HINT_KEY), None, "controlnets.0.image is not stored any more"),
        (ControlNet("canny", HINT_KEY), b"no picture", "controlnets.0.image must be"),
        (ControlNet("depth", HINT_KEY), png(shapes()), "depth: no depth hint can be made"),
    ],
)
def test_what_cannot_be_used_fails_its_job_alone(rig, painter, net, stored, message):
    good = rig.submit(controlnets=(ControlNet(net.name, IMAGE_KEY, preprocess=False),))
    del rig.storage.objects[HINT_KEY]
    if stored is not None:
        rig.storage.objects[HINT_KEY] = StoredObject(stored, "image/png")
    bad = rig.submit(controlnets=(net,))
    rig.runner.turn()
    assert rig.statuses(good, bad) == ["succeeded", "failed"]
    error = rig.read(bad).result.error
    assert error["code"] == "input_unusable"
    assert message in error["message"]
    assert len(painter.calls) == 1
