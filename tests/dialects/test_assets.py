"""LoRAs, VAEs and textual inversions in each dialect that has them: what is taken, and what is refused by its field."""

import pytest

from shared.spec import Lora

NATIVE, SD, TEXT2IMG = "/v1/jobs", "/generate/sd", "/api/v6/images/text2img"
SMALL = {"width": 128, "height": 128}


def native(bench, **fields):
    return bench.post(NATIVE, {"prompt": "x", **SMALL, **fields})


def octoai(bench, **fields):
    return bench.post(SD, {"prompt": "x", **SMALL, **fields})


def modelslab(bench, **fields):
    return bench.client.post(TEXT2IMG, json={"key": bench.credentials.key, "prompt": "x", **SMALL, **fields})


def taken(worker, answer):
    assert answer.status_code in {200, 202}, answer.text
    return worker.specs[-1]


def named_by(answer):
    """Return the field that a refusal names, in whichever envelope."""
    body = answer.json
    if "detail" in body and isinstance(body["detail"], list):
        return body["detail"][0]["loc"][1]
    return body["field"] if "field" in body else body["message"].split(":")[0]


def test_octoais_objects(bench, worker):
    answer = octoai(
        bench,
        loras={"octoai:add-detail": 0.5, "yae-miko-genshin": None},
        vae="contrast",
        textual_inversions={"neon": "glow", "clay": None},
    )
    spec = taken(worker, answer)
    assert spec.loras == (Lora("detail", 0.5), Lora("anime", 1.0))
    assert spec.vae == "contrast"
    assert spec.textual_inversions == (("neon", "glow"), ("clay", "clay"))


@pytest.mark.parametrize(
    ("strengths", "weights"), [("0.7, 0.4", (0.7, 0.4)), ("0.3", (0.3, 0.3)), (0.3, (0.3, 0.3)), (None, (1.0, 1.0))]
)
def test_modelslabs_lists(bench, worker, strengths, weights):
    answer = modelslab(
        bench,
        lora_model="contrast-fix, yae-miko-genshin",
        lora_strength=strengths,
        vae="contrast",
        embeddings_model="neon,clay",
    )
    spec = taken(worker, answer)
    assert spec.loras == (Lora("detail", weights[0]), Lora("anime", weights[1]))
    assert spec.vae == "contrast"
    assert spec.textual_inversions == (("neon", "neon"), ("clay", "clay"))


@pytest.mark.parametrize(
    ("names", "strengths"), [("contrast-fix,yae-miko-genshin", "0.7,0.4,0.1"), ("contrast-fix", "0.7,0.4")]
)
def test_modelslabs_lists_must_agree(bench, worker, names, strengths):
    answer = modelslab(bench, lora_model=names, lora_strength=strengths)
    assert (answer.status_code, named_by(answer)) == (400, "lora_strength")
    assert worker.specs == []


def test_the_native_fields(bench):
    loras = [{"name": "contrast-fix", "weight": 0.25}, {"name": "yae-miko-genshin", "weight": None}]
    answer = native(bench, loras=loras, vae="contrast", textual_inversions={"neon": None, "clay": "mud"})
    assert answer.status_code == 202, answer.text
    spec = bench.backlog.read(answer.json["uid"], account=bench.credentials.account).submission.spec
    assert spec.loras == (Lora("detail", 0.25), Lora("anime"))
    assert spec.vae == "contrast"
    assert spec.textual_inversions == (("neon", "<neon>"), ("clay", "mud"))


@pytest.mark.parametrize(
    "fields",
    [
        {"loras": "detail"},
        {"loras": ["detail"]},
        {"loras": [{"weight": 1}]},
        {"loras": [{"name": "detail", "weight": 5.01}]},
        {"loras": [{"name": "detail", "weight": "1"}]},
        {"loras": [{"name": "detail", "weight": True}]},
        {"loras": [{"name": "detail", "scale": 1}]},
        {"loras": [{"name": "detail"}] * 9},
        {"vae": 1},
        {"vae": ""},
        {"textual_inversions": ["neon"]},
        {"textual_inversions": {"neon": 1}},
        {"textual_inversions": {"neon": " "}},
        {"textual_inversions": {"neon": "a", "clay": "A"}},
        {"textual_inversions": {"neon": "x" * 256}},
    ],
)
def test_what_the_native_api_cannot_read_is_refused_by_field(bench, worker, fields):
    answer = native(bench, **fields)
    assert (answer.status_code, answer.json["field"]) == (400, next(iter(fields)))
    assert bench.job_count() == 0


@pytest.mark.parametrize("name", ["nothing", "for-sd1", "bobs"])
def test_unknown_unfitting_and_foreign_names_are_refused_by_field(bench, name):
    for answer, status, field in (
        (native(bench, loras=[{"name": name}]), 400, "loras"),
        (native(bench, vae=name), 400, "vae"),
        (native(bench, textual_inversions={name: "x"}), 400, "textual_inversions"),
        (octoai(bench, loras={name: 1}), 422, "loras"),
        (octoai(bench, vae=name), 422, "vae"),
        (octoai(bench, textual_inversions={name: None}), 422, "textual_inversions"),
        (modelslab(bench, lora_model=f"contrast-fix,{name}"), 400, "lora_model"),
        (modelslab(bench, vae=name), 400, "vae"),
        (modelslab(bench, embeddings_model=name), 400, "embeddings_model"),
    ):
        assert (answer.status_code, named_by(answer)) == (status, field), answer.text
    assert bench.job_count() == 0


def test_an_accounts_own_names_come_first(bench):
    answer = native(bench, loras=[{"name": "mine"}, {"name": "anime"}])
    spec = bench.backlog.read(answer.json["uid"], account=bench.credentials.account).submission.spec
    assert spec.loras == (Lora("alices"), Lora("alices"))
    other = bench.client.post(NATIVE, json={"prompt": "x", "loras": [{"name": "anime"}]}, headers=bench.key_of("carol"))
    assert other.status_code == 202
    refused = bench.client.post(
        NATIVE, json={"prompt": "x", "loras": [{"name": "mine"}]}, headers=bench.key_of("carol")
    )
    assert (refused.status_code, refused.json["field"]) == (400, "loras")


def test_assets_are_listed_to_those_who_may_use_them(bench):
    listed = bench.get("/v1/assets").json["data"]
    kinds = {(asset["kind"], asset["name"]) for asset in listed}
    assert {("lora", "detail"), ("lora", "alices"), ("vae", "contrast"), ("textual_inversion", "neon")} <= kinds
    assert ("lora", "bobs") not in kinds
    (neon,) = [asset for asset in listed if asset["name"] == "neon"]
    assert neon == {
        "kind": "textual_inversion",
        "name": "neon",
        "description": neon["description"],
        "aliases": [],
        "base": "demo",
        "triggers": ["<neon>"],
    }
