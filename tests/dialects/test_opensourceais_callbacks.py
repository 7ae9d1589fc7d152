"""OpenSourceAIs' callbacks: each picture sent and told of, then the end; made by a real courier to a real receiver."""

import io
import json
from ipaddress import ip_network

import pytest
from PIL import Image
from standardwebhooks import Webhook
from werkzeug.formparser import parse_form_data

from shared.dialects import Links
from shared.job import Status
from shared.outbox import Outbox
from shared.safe_http import SafeHttp
from tests.dialects import rig
from tests.dialects.test_opensourceais import SUBMIT, ended, log_in
from tests.services import Reply, receiver
from worker.courier import Courier

ALLOW = (ip_network("127.0.0.0/8"),)


@pytest.fixture
def service(valkey, tmp_path):
    with rig.service(valkey, tmp_path, outbound_allow=ALLOW) as (bench, worker):
        yield bench, worker


@pytest.fixture
def server():
    with receiver() as running:
        yield running


class Caller:
    """A client with callbacks, and the courier that makes them."""

    def __init__(self, bench, server, **urls):
        self.bench = bench
        self.server = server
        self.made = bench.parts.accounts.create_key("carol", **urls)
        self.headers = log_in(bench, self.made)
        self.courier = Courier(
            outbox=Outbox(bench.redis, lease_s=30),
            backlog=bench.backlog,
            batches=bench.parts.batches,
            accounts=bench.parts.accounts,
            links=Links(base_url="https://api.example", storage=bench.parts.storage, ttl_s=600),
            http=SafeHttp(allow=ALLOW),
        )

    def run(self, **fields) -> int:
        """Submit a request, wait for its end and let the courier go once; return its uid."""
        answer = self.bench.client.post(SUBMIT, json={"word": "a fox", "steps": 1, **fields}, headers=self.headers)
        assert answer.status_code == 201, answer.text
        uid = answer.json["data"]["uid"]
        ended(self.bench, uid, self.headers)
        self.deliver(uid)
        return uid

    def deliver(self, uid):
        for entry in self.bench.redis.zrange("{dr}:ob", 0, -1):
            self.bench.redis.zadd("{dr}:ob", {entry: 1})
            if not entry.endswith(":1"):
                self.courier.deliver(entry)  # the job has ended: nothing is told of its way any more
        self.courier.deliver(f"{uid}:1")

    def waiting(self):
        return self.bench.redis.zcard("{dr}:ob")

    def notices(self):
        """Return what came to the notice address, each verified."""
        hook = Webhook(self.made.webhook_secret)
        return [hook.verify(one.body, one.headers) for one in self.server.requests if one.path == "/notify"]


def form_of(request):
    _, fields, files = parse_form_data(
        {
            "REQUEST_METHOD": "POST",
            "CONTENT_TYPE": request.headers["Content-Type"],
            "CONTENT_LENGTH": str(len(request.body)),
            "wsgi.input": io.BytesIO(request.body),
        }
    )
    with files["file"].stream as stream:
        return fields.to_dict(), files["file"], stream.read()


def test_each_picture_and_then_the_end_is_told(bench, server):
    caller = Caller(bench, server, notify_url=f"{server.url}/notify")
    uid = caller.run(cimg=2)

    first, second, last = caller.notices()
    common = {"engine": "diffusion", "uid": uid, "token": caller.made.client_token, "username": "carol"}
    assert set(first) == {"cost", "cycle", "descr", "engine", "filename", "qty", "stage", "uid", "token", "username"}
    for notice in (first, second, last):
        assert {name: notice[name] for name in common} == common
    assert [(one["stage"], one["cycle"], one["qty"]) for one in (first, second, last)] == [
        (4, 0, 1),
        (4, 1, 1),
        (5, 1, 2),
    ]
    assert first["filename"].startswith("http")
    assert f"output_{uid}-0.png" in first["filename"]
    assert (last["filename"], last["descr"]) == ("default", "AI stopped")
    assert caller.waiting() == 0


def test_pictures_are_sent_as_files_and_signed(bench, server):
    caller = Caller(bench, server, upload_url=f"{server.url}/upload", notify_url=f"{server.url}/notify")
    uid = caller.run(output="cat.png", width=384)

    assert [one.path for one in server.requests] == ["/upload", "/notify", "/notify"]
    fields, file, picture = form_of(server.requests[0])
    assert fields == {"uid": str(uid), "token": caller.made.client_token, "cycle": "0", "engine": "diffusion"}
    assert (file.filename, file.content_type) == ("cat.png", "image/png")
    assert Image.open(io.BytesIO(picture)).size == (384, 320)
    ids = {one.headers["webhook-id"] for one in server.requests}
    assert len(ids) == 3
    assert all(one.headers["webhook-signature"].startswith("v1,") for one in server.requests)


def test_without_a_notice_address_only_pictures_are_sent(bench, worker, server):
    caller = Caller(bench, server, upload_url=f"{server.url}/upload")
    caller.run(cimg=2)
    assert [one.path for one in server.requests] == ["/upload", "/upload"]

    worker.fail = {"code": "out_of_memory", "message": "Too little memory.", "retryable": False}
    caller.run()
    assert len(server.requests) == 2
    assert caller.waiting() == 0


def test_what_ended_without_pictures_is_stage_minus_one(bench, worker, server):
    worker.fail = {"code": "out_of_memory", "message": "Too little memory.", "retryable": False}
    caller = Caller(bench, server, upload_url=f"{server.url}/upload", notify_url=f"{server.url}/notify")
    caller.run()

    (notice,) = caller.notices()
    assert len(server.requests) == 1
    assert (notice["stage"], notice["descr"], notice["qty"]) == (-1, "Too little memory.", 0)


def test_a_call_that_fails_is_made_again_and_those_before_it_are_not(bench, server):
    caller = Caller(bench, server, upload_url=f"{server.url}/upload", notify_url=f"{server.url}/notify")
    server.replies += [Reply(), Reply(status=500)]
    uid = caller.run(cimg=2)
    assert [one.path for one in server.requests] == ["/upload", "/notify"]
    assert caller.waiting() == 1

    caller.deliver(uid)

    assert [one.path for one in server.requests[2:]] == ["/notify", "/upload", "/notify", "/notify"]
    assert server.requests[1].headers["webhook-id"] == server.requests[2].headers["webhook-id"]
    assert [notice["stage"] for notice in caller.notices()] == [4, 4, 4, 5]
    assert caller.waiting() == 0


def test_a_receiver_that_is_gone_is_left_alone(bench, server):
    caller = Caller(bench, server, notify_url=f"{server.url}/notify")
    server.replies.append(Reply(status=410))
    caller.run()
    assert len(server.requests) == 1
    assert caller.waiting() == 0


def test_a_picture_that_was_erased_meanwhile_ends_it(bench, server):
    caller = Caller(bench, server, upload_url=f"{server.url}/upload")
    server.replies.append(Reply(status=500))
    uid = caller.run()
    job = bench.backlog.read(uid, account=caller.made.account)
    bench.parts.storage.delete_prefix(f"results/{job.handle}")

    caller.deliver(uid)

    assert len(server.requests) == 1
    assert bench.redis.zcard("{dr}:ob:dead") == 1


def test_a_later_attempt_takes_over(bench, server):
    caller = Caller(bench, server, notify_url=f"{server.url}/notify")
    server.replies.append(Reply(status=500))
    entry = f"{caller.run()}:1"
    outbox, due = Outbox(bench.redis, lease_s=30), {entry: 1}
    bench.redis.zadd("{dr}:ob", due)
    early = outbox.claim(entry)
    bench.redis.zadd("{dr}:ob", due)
    late = outbox.claim(entry)

    assert not outbox.told(early, 1)
    assert outbox.told(late, 1)
    assert outbox.due(10) == []
    bench.redis.zadd("{dr}:ob", due)
    assert outbox.claim(entry).told == 1


def test_a_client_without_addresses_is_not_called(bench, server):
    caller = Caller(bench, server)
    answer = bench.client.post(SUBMIT, json={"word": "x"}, headers=caller.headers)
    job = bench.backlog.read(answer.json["data"]["uid"], account=caller.made.account)
    assert job.submission.webhook_url is None


def test_an_api_key_is_called_back_as_its_client_is(bench, server):
    caller = Caller(bench, server, notify_url=f"{server.url}/notify")
    caller.headers = {"Authorization": f"Bearer {caller.made.key}"}
    caller.run()
    assert [notice["stage"] for notice in caller.notices()] == [4, 5]


def test_cancelling_is_told(bench, worker, server):
    worker.open.clear()
    caller = Caller(bench, server, notify_url=f"{server.url}/notify")
    answer = bench.client.post(SUBMIT, json={"word": "x"}, headers=caller.headers)
    uid = answer.json["data"]["uid"]
    assert bench.backlog.cancel(uid, account=caller.made.account).status is Status.CANCELLED
    caller.deliver(uid)
    assert json.loads(server.requests[0].body)["stage"] == -1


def test_the_way_of_a_request_is_told_while_it_lasts(bench, worker, server):
    worker.open.clear()
    worker.backlog.goodbye(worker.node)
    caller = Caller(bench, server, notify_url=f"{server.url}/notify")
    uid = bench.client.post(SUBMIT, json={"word": "x"}, headers=caller.headers).json["data"]["uid"]
    caller.courier.deliver(f"{uid}:q0")
    worker.backlog.hello("another@h", "1", pool="default", models=("demo",))
    (lease,) = worker.backlog.claim("another@h", max_jobs=1, max_images=1).leases
    caller.courier.deliver(f"{uid}:r{lease.fence}")

    assert [(one["stage"], one["descr"], one["uid"]) for one in caller.notices()] == [
        (0, "AI request sent", uid),
        (1, "AI request acknowledged", uid),
        (2, "AI started", uid),
    ]
    assert len({one.headers["webhook-id"] for one in server.requests}) == 3
    assert caller.waiting() == 0
