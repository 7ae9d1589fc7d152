"""After a run, when all is calm: what must hold of jobs, webhooks and credits."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable

from shared.job import Job, Status
from shared.keys import PREFIX, account_key
from shared.ledger import Prices
from shared.settings import Settings
from tests.chaos.aftermath import TERMINAL, Aftermath
from tests.chaos.receiver import Moody
from tests.chaos.report import Report
from tests.chaos.traffic import CREDITS


def check_jobs(found: Aftermath, report: Report) -> None:
    """Each job that was asked for was accepted once and has ended once, as it may end."""
    asked = sum(one.wish.lines for one in found.told)
    spare, unsure = len(found.jobs) - asked, sum(one.unsure for one in found.told)
    outcomes = Counter(str(job.status) for job in found.jobs.values())
    ends = Counter(uid for _, uid, event in found.events if event in TERMINAL)
    counted = {uid: state.get("outcome") for uid, state in found.states.items()}
    report.note("jobs asked for", asked)
    report.note("accepted without an answer", f"{spare}; asked for again {unsure} times where no key tells repeats")
    report.note("outcomes", ", ".join(f"{count} {name}" for name, count in sorted(outcomes.items())))
    report.expect("terminal outcomes", sum(outcomes[name] for name in TERMINAL), asked + spare)
    report.expect_none("jobs lost", list(_lost(found)))
    report.expect_none("jobs doubled", list(_doubled(found)))
    report.expect_none("outcomes told twice or never", [f"{uid}: {ends[uid]}" for uid in found.jobs if ends[uid] != 1])
    report.expect_none(
        "records with another number of outcomes", [f"{uid}: {n}" for uid, n in counted.items() if n != "1"]
    )
    report.expect_none("cancelled jobs that were not", list(_uncancelled(found)))
    faults = [fault for client in found.clients.values() for fault in client.faults]
    report.expect_none("answers of 500", faults)


def _lost(found: Aftermath) -> Iterable[str]:
    for one in found.told:
        if one.uid is not None and one.uid not in found.jobs:
            yield f"{one.uid} was promised"
        if len(found.by_wish[one.wish.number]) < one.wish.lines:
            yield f"{one.wish} came to {len(found.by_wish[one.wish.number])}"


def _doubled(found: Aftermath) -> Iterable[str]:
    """With a key that tells repeats a wish is one job, else at most one for each time that it was asked for."""
    for one in found.told:
        uids = [job.uid for job in found.by_wish[one.wish.number]]
        if len(uids) > one.wish.lines + one.unsure:
            yield f"{one.wish}, asked for again {one.unsure} times: {uids}"


def _uncancelled(found: Aftermath) -> Iterable[str]:
    for one in found.told:
        if one.cancelled and one.uid is not None and found.jobs[one.uid].status is not Status.CANCELLED:
            yield f"{one.uid} is {found.jobs[one.uid].status}"


def check_failures(found: Aftermath, report: Report) -> None:
    """A job fails only where three workers died with it, and those that kill their worker do so no more often."""
    failed = [job for job in found.jobs.values() if job.status is Status.FAILED]
    poison = [job for job in found.jobs.values() if found.wish_of(job).is_poison]
    quarantined = [job for job in failed if _is_quarantined(found, job)]
    report.expect("jobs that kill their worker set apart", sum(job in quarantined for job in poison), len(poison))
    report.note("other jobs with which three workers died", sum(job not in poison for job in quarantined))
    wrong = [f"{job.uid}: {job.result.error}" for job in failed if job not in quarantined]
    report.expect_none("jobs that should not have failed", wrong)


def _is_quarantined(found: Aftermath, job: Job) -> bool:
    return (job.result.error or {}).get("code") == "worker_lost" and found.states[job.uid].get("lost") == "3"


def check_webhooks(found: Aftermath, moody: Moody, report: Report) -> None:
    """Each end that somebody wants to be told of was told at least once, truly, and under its one id."""
    answered: dict[str, list[int]] = defaultdict(list)
    for call in moody.calls:
        answered[call.id].append(call.status)
    wanted = [job for job in found.jobs.values() if _tells(found, job)]
    untold = [job.uid for job in wanted if not _is_told(job, answered)]
    twice = sum(statuses.count(200) > 1 for statuses in answered.values())
    share = 100 * sum(call.status != 200 for call in moody.calls) / max(1, len(moody.calls))
    report.note("calls at the receiver", f"{len(moody.calls)}, of which {share:.0f} % failed; {twice} told twice")
    report.expect("webhooks delivered", len(wanted) - len(untold), len(wanted))
    report.expect_none("webhooks lost", [str(uid) for uid in untold])
    report.expect_none("webhooks under another id", list(_unstable(found, moody)))
    report.expect_none("webhooks that tell another outcome", list(_untrue(found, moody)))
    report.expect_none("entries left in the outbox", found.redis.zrange(f"{PREFIX}ob", 0, -1))
    report.expect_none("dead letters", found.redis.zrange(f"{PREFIX}ob:dead", 0, -1))


def _tells(found: Aftermath, job: Job) -> bool:
    wish = found.wish_of(job)
    if not (wish.has_hook or wish.dialect == "opensourceais"):
        return False
    return str(job.status) in job.submission.webhook_events


def _is_told(job: Job, answered: dict[str, list[int]]) -> bool:
    """Whether the call about a job's end, and all that belong to it, were taken."""
    first = f"msg_{job.handle}_1"
    belonging = [statuses for id_, statuses in answered.items() if id_ == first or id_.startswith(f"{first}_")]
    return first in answered and all(200 in statuses for statuses in belonging)


def _unstable(found: Aftermath, moody: Moody) -> Iterable[str]:
    """A receiver of its own for each wish hears of as many ids as there are jobs."""
    heard: dict[str, set[str]] = defaultdict(set)
    for call in moody.calls:
        heard[call.path].add(call.id)
    for one in found.told:
        if one.wish.has_hook:
            jobs = [job for job in found.by_wish[one.wish.number] if _tells(found, job)]
            expected, ids = {f"msg_{job.handle}_1" for job in jobs}, heard[f"/hook/{one.wish.number}"]
            if ids != expected:
                yield f"{one.wish}: {sorted(ids)}, not {sorted(expected)}"


def _untrue(found: Aftermath, moody: Moody) -> Iterable[str]:
    for call in moody.calls:
        if call.path.startswith("/hook/") and "event" in (told := json.loads(call.body)):
            job = found.jobs[told["uid"]]
            if (told["event"], told["status"]) != (str(job.status), str(job.status)):
                yield f"{job.uid} is {job.status}, told was {told['event']}, {told['status']}"


def check_ledger(found: Aftermath, report: Report) -> None:
    """Every account has paid for its successes and for nothing else."""
    prices = Prices.load(Settings())
    wrong, settled_in_all, owed_in_all = [], 0, 0
    for name, client in found.clients.items():
        account = client.credentials.account
        books = found.redis.hgetall(account_key(account))
        won = [job for job in found.jobs.values() if job.account == account and job.status is Status.SUCCEEDED]
        used = _used(found, account)
        if (used["succeeded"], used["images"]) != (len(won), sum(len(job.result.artifacts) for job in won)):
            wrong.append(f"{name}: {len(won)} jobs succeeded, its usage says {dict(used)}")
        if "balance" not in books:
            continue
        balance, reserved, settled = (int(books.get(key, 0)) for key in ("balance", "reserved", "settled"))
        owed = sum(prices.of(job.submission) for job in won)
        settled_in_all, owed_in_all = settled_in_all + settled, owed_in_all + owed
        if (balance, reserved, settled) != (CREDITS * 1000 - owed, 0, owed):
            wrong.append(f"{name}: balance {balance}, reserved {reserved}, settled {settled}, owed {owed}")
    report.expect("millicredits settled", settled_in_all, owed_in_all)
    report.expect_none("accounts whose books are wrong", wrong)


def _used(found: Aftermath, account: str) -> Counter[str]:
    """Return what an account's days say it used."""
    used: Counter[str] = Counter()
    for key in found.redis.keys(f"{PREFIX}u:{account}:*"):
        used.update({name: int(value) for name, value in found.redis.hgetall(key).items()})
    return used
