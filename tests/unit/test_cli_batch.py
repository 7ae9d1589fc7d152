"""`darkroom batch` against a real Valkey and the real API; whenever it waits, a worker does the next job."""

import csv
import importlib
import io
import json
from functools import partial

import pytest
from click.shell_completion import BashComplete
from rich.console import Console

from shared.cli import main
from shared.cli.api import Api, TooOften, Unreachable
from shared.cli.batch_run import BatchRun
from shared.cli.batch_view import Rate, batch_view, span
from shared.job import Status
from tests.unit.test_cli_operators import desk  # noqa: F401 - a fixture

ERROR = {"code": "worker_lost", "message": "Lost.", "retryable": True}
CSV = "prompt,seed\na red circle,7\na blue square,8\na green star,9\n"


@pytest.fixture
def waiting(desk, monkeypatch):  # noqa: F811
    """Return a function that says what happens while the command waits: a function for each time."""

    def says(*steps):
        left = list(steps)

        def sleep(_seconds):
            desk.bench.parts.batches.feed()
            left.pop(0)()

        commands = importlib.import_module("shared.cli.batch")  # the package has the group under this name
        monkeypatch.setattr(commands, "BatchRun", partial(BatchRun, sleep=sleep))
        return left

    return says


@pytest.fixture
def draw(desk):  # noqa: F811
    return desk.bench.draw


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.csv"
    path.write_text(CSV)
    return path


def fail(draw):
    draw(Status.FAILED, ERROR)


def interrupt():
    raise KeyboardInterrupt


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def table(folder):
    with (folder / "results.csv").open(newline="") as rows:
        return list(csv.DictReader(rows))


def run(desk, **options):  # noqa: F811
    return desk.run("batch", "run", "prompts.csv", "-o", "out", **options)


def test_a_file_of_prompts_becomes_a_folder_of_images(desk, waiting, draw, prompts, tmp_path):  # noqa: F811
    left = waiting(draw, draw, draw)

    told = run(desk)

    assert left == []
    assert names(tmp_path / "out") == ["1.png", "2.png", "3.png", "batch.json", "results.csv"]
    assert (tmp_path / "out" / "1.png").read_bytes().startswith(b"\x89PNG")
    assert "3 of 3 lines have their images in out" in told
    rows = table(tmp_path / "out")
    assert [(row["line"], row["status"], row["prompt"], row["seeds"], row["files"]) for row in rows] == [
        ("1", "succeeded", "a red circle", "7", "1.png"),
        ("2", "succeeded", "a blue square", "8", "2.png"),
        ("3", "succeeded", "a green star", "9", "3.png"),
    ]


def test_what_failed_is_told_and_drawn_by_a_second_run(desk, waiting, draw, prompts, tmp_path):  # noqa: F811
    waiting(draw, partial(fail, draw), draw)

    told = run(desk, exit_code=1)

    (batch,) = desk.json("batch", "ls")
    assert "2 of 3 lines have their images" in told
    assert "1 worker_lost (line 2: Lost.)" in told
    assert f"darkroom batch retry {batch['id']}" in told
    assert table(tmp_path / "out")[1]["error_code"] == "worker_lost"

    (tmp_path / "out" / "1.png").write_text("not fetched again")
    desk.run("batch", "retry", str(batch["id"]))
    waiting(draw)

    assert "3 of 3 lines" in run(desk)
    assert (tmp_path / "out" / "1.png").read_text() == "not fetched again"
    assert names(tmp_path / "out") == ["1.png", "2.png", "3.png", "batch.json", "results.csv"]


def test_ctrl_c_leaves_the_batch_running_and_says_how_to_come_back(desk, waiting, draw, prompts, tmp_path):  # noqa: F811
    waiting(draw, interrupt)

    told = run(desk, exit_code=130)

    (batch,) = desk.json("batch", "ls")
    assert batch["status"] == "running"
    assert "To come back:  darkroom batch run prompts.csv -o out" in told.replace(str(tmp_path) + "/", "")
    assert f"darkroom batch cancel {batch['id']}" in told
    waiting(draw, draw)
    run(desk)
    assert len(desk.json("batch", "ls")) == 1
    assert len(table(tmp_path / "out")) == 3


def test_what_was_accepted_and_not_noted_is_not_submitted_twice(desk, waiting, draw, prompts, tmp_path, monkeypatch):  # noqa: F811
    submit = Api.submit_batch

    def lost(*arguments, **options):
        submit(*arguments, **options)
        raise Unreachable("the answer was lost")

    monkeypatch.setattr(Api, "submit_batch", lost)
    assert "the answer was lost" in run(desk, exit_code=3)
    monkeypatch.setattr(Api, "submit_batch", submit)
    waiting(draw, draw, draw)
    run(desk)

    assert len(desk.json("batch", "ls")) == 1


def test_a_refusal_names_the_lines_and_leaves_nothing(desk, waiting, draw, prompts, tmp_path):  # noqa: F811
    prompts.write_text(CSV.replace("8", "many").replace("a red circle", ""))

    told = run(desk, exit_code=1)

    assert "line 1: prompt: " in told
    assert "line 2: seed: " in told
    assert names(tmp_path / "out") == []
    prompts.write_text(CSV)
    waiting(draw, draw, draw)
    run(desk)


def test_a_folder_belongs_to_one_batch(desk, waiting, draw, prompts):  # noqa: F811
    waiting(draw, draw, draw)
    run(desk)
    prompts.write_text(CSV + "another,1\n")

    assert "Name another folder" in run(desk, exit_code=1)


def test_a_batch_that_is_gone_is_told(desk, waiting, draw, prompts):  # noqa: F811
    waiting(draw, draw, draw)
    run(desk)
    batches = desk.bench.parts.batches
    batch = batches.read(desk.json("batch", "ls")[0]["id"], account=desk.bench.credentials.account)
    batches.forget(batch)

    assert f"batch {batch.id}, which out is of: There is no such batch" in run(desk, exit_code=1)


def test_more_lines_than_are_fetched_at_once(desk, waiting, draw, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr("shared.cli.batch_run.LINES_AT_ONCE", 2)
    monkeypatch.setattr("shared.backlog.batches.QUEUED_AT_MOST", 4)
    lines = [json.dumps({"prompt": str(n), "num_images": 1 + (n == 4)}) for n in range(10)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines))

    def draw_four():
        for _ in range(4):
            draw()

    waiting(draw_four, draw_four, draw, draw)
    told = json.loads(desk.run("batch", "run", "prompts.jsonl", "-o", "out", "--json"))

    assert (told["batch"]["status"], told["fetched"], told["missing"]) == ("completed", 10, 0)
    images = [name for name in names(tmp_path / "out") if name.endswith(".png")]
    assert images == [*(f"0{n}.png" for n in (1, 2, 3, 4)), "05-0.png", "05-1.png", "06.png", *images[7:]]
    assert len(images) == 11
    assert table(tmp_path / "out")[4]["files"] == "05-0.png 05-1.png"


def test_an_image_that_cannot_be_fetched_is_tried_again_and_told(desk, waiting, draw, prompts, tmp_path):  # noqa: F811
    tries = []

    def lose():
        draw()
        desk.bench.parts.storage.delete_prefix("results")

    waiting(lose, draw, draw, *[partial(tries.append, n) for n in range(2)])

    told = run(desk, exit_code=3)

    assert "2 of 3 lines have their images" in told
    assert "1 could not be fetched; run the same once more" in told
    assert len(tries) == 2
    assert names(tmp_path / "out") == ["2.png", "3.png", "batch.json", "results.csv"]


@pytest.mark.parametrize(
    ("error", "says"),
    [(Unreachable("away"), "no answer, trying again"), (TooOften("slow down", pause_s=3), "")],
)
def test_a_service_that_is_away_for_a_while_is_waited_for(desk, waiting, draw, prompts, monkeypatch, error, says):  # noqa: F811
    get, failures = Api.get, [error, error]
    spoken = []

    def sometimes(self, path, **query):
        if failures:
            raise failures.pop()
        return get(self, path, **query)

    monkeypatch.setattr(Api, "get", sometimes)
    monkeypatch.setattr("shared.cli.batch_view.BatchView.says", lambda _, text: spoken.append(text))
    waiting(draw, draw, draw)

    run(desk)

    assert spoken == ([says] * 2 if says else [])


def test_a_dry_run_takes_nothing(desk, prompts, tmp_path):  # noqa: F811
    good = desk.run("batch", "run", "prompts.csv", "--dry-run")
    assert good.startswith("3 jobs for ")

    prompts.write_text(CSV + ",1\n")
    bad = desk.run("batch", "run", "prompts.csv", "--dry-run", exit_code=1)
    assert "line 4: prompt: " in bad
    assert desk.json("batch", "ls") == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("prompts.csv",), "name the folder of the images with -o"),
        (("prompts.txt", "-o", "out"), "the suffix must be one of .csv, .jsonl"),
        (("none.csv", "-o", "out"), "does not exist"),
        (("prompts.csv", "-o", "out", "--budget", "lots"), "is no number"),
    ],
)
def test_wrong_usage_is_told(desk, prompts, tmp_path, arguments, says):  # noqa: F811
    (tmp_path / "prompts.txt").touch()

    assert says in desk.run("batch", "run", *arguments, exit_code=2).replace("\n", " ")


def test_options_belong_to_the_batch(desk, waiting, draw, prompts):  # noqa: F811
    waiting(draw, draw, draw)
    options = (
        "--name",
        "trial",
        "--priority",
        "high",
        "--budget",
        "100",
        "--webhook-url",
        "https://shop.example/a?b=c&d",
    )
    desk.run("batch", "run", "prompts.csv", "-o", "out", *options)

    (batch,) = desk.json("batch", "ls")
    assert (batch["name"], batch["budget"]) == ("trial", 100_000)
    kept = desk.bench.parts.batches.read(batch["id"], account=desk.bench.credentials.account)
    assert kept.options.webhook_url == "https://shop.example/a?b=c&d"
    wrong = ("-o", "other", "--webhook-url", "ftp://shop.example/")
    assert "webhook_url" in desk.run("batch", "run", "prompts.csv", *wrong, exit_code=1)
    assert "budget" in desk.run("batch", "run", "prompts.csv", "-o", "poor", "--budget", "0.001", exit_code=1)


def test_batches_are_listed_shown_and_steered(desk, draw):  # noqa: F811
    batch = desk.bench.post("/v1/batches?name=[/mine]", [{"prompt": "=x"}, {"prompt": "y"}]).json["id"]
    number = str(batch)

    assert desk.run("batch", "pause", number) == f"{batch}: paused\n"
    assert desk.json("batch", "status", number)["status"] == "paused"
    assert desk.json("batch", "resume", number)[0]["status"] == "running"
    draw()
    shown = desk.run("batch", "status", number)
    assert "2: 1 queued, 1 succeeded" in shown
    assert "[/mine]" in desk.run("batch", "ls")
    lines = [json.loads(line) for line in desk.run("batch", "results", number).splitlines()]
    assert [line["status"] for line in lines] == ["succeeded", "queued"]
    desk.run("batch", "results", number, "--csv", "-o", "results.csv")
    with open("results.csv", newline="") as rows:  # noqa: PTH123 - in the test's folder
        assert [row["prompt"] for row in csv.DictReader(rows)] == ["=x", "y"]
    assert desk.run("batch", "cancel", number, "7", exit_code=1).splitlines()[0] == f"{batch}: cancelled"
    assert desk.run("batch", "retry", number) == f"{batch}: running\n"


def test_the_rate_is_that_of_the_last_minute():
    rate = Rate()
    rate.note(100, now_s=0)
    assert rate.per_s == 0
    rate.note(110, now_s=10)
    assert rate.per_s == 1
    rate.note(1010, now_s=100)
    assert rate.per_s == 10


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (62, "1:02"), (3723, "1:02:03"), (360_000, "100:00:00")])
def test_times_are_told(seconds, text):
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("words", "begun", "offered"),
    [
        (["batch"], "r", {"run", "results", "resume", "retry"}),
        (["batch", "run", "--priority"], "", {"high", "low", "normal"}),
        (["batch", "run"], "--d", {"--dry-run", "--data-dir"}),
    ],
)
def test_shells_complete_it(words, begun, offered):
    complete = BashComplete(main, {}, "darkroom", "_DARKROOM_COMPLETE")

    assert {each.value for each in complete.get_completions(words, begun)} == offered


def standing(status, *, queued=0, succeeded=0, failed=0):
    counts = {**dict.fromkeys(Status, 0), "queued": queued, "succeeded": succeeded, "failed": failed}
    return {"id": 77, "status": status, "total": 1000, "counts": counts}


def test_the_view_tells_rate_time_left_failures_and_a_pause():
    screen = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    now = [0.0]
    with batch_view(screen, 1000) as view:
        view._clock = lambda: now[0]
        view.show(standing("running", queued=900, succeeded=100), fetched=90)
        now[0] = 10
        view.show(standing("running", queued=800, succeeded=190, failed=10), fetched=180)
        view._progress.refresh()
        running = screen.file.getvalue()
        for _ in range(2):
            view.show(standing("paused", queued=800, succeeded=190, failed=10), fetched=190)
            view._progress.refresh()
    shown = screen.file.getvalue()

    assert "200/1,000  10.0/s  1:20 left" in running
    assert "180  10 without images" in running
    assert "✗" not in shown
    assert "200/1,000  paused" in shown
    assert shown.count("darkroom batch resume 77") == 1
