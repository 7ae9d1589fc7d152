"""What clients will ask for: jobs of every kind and size, mixed at random."""

import random
from dataclasses import dataclass, replace

#: (wire format, how many in a hundred). Two of them answer with the picture, and know no webhook.
MIX = (("native", 52), ("modelslab", 14), ("opensourceais", 12), ("octoai", 10), ("aithriving", 6), ("stability", 6))
ACCOUNTS = (("first", 40), ("second", 30), ("unmetered", 22), ("free", 8))
#: One batch of so many lines comes with about so many other jobs.
BATCH_LINES, BATCH_EVERY = 20, 150
#: One in so many kills its worker, where there are such jobs.
POISON_EVERY = 300
#: A job whose prompt begins so ends the process that draws it, as one does that breaks a driver.
POISON = "poison"


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How large jobs are: sides and steps to choose from, and how far apart two submissions are."""

    sides: tuple[int, ...] = (64, 128, 192, 256)
    steps: tuple[int, ...] = (10, 20, 40)
    every_s: float = 0.1
    #: Whether some jobs kill whatever draws them.
    has_poison: bool = False


@dataclass(frozen=True, kw_only=True)
class Wish:
    """A job, or a batch of `lines` jobs, that a client will ask for."""

    number: int
    #: The wire format, or "batch".
    dialect: str
    account: str
    side: int
    steps: int
    seed: int
    images: int = 1
    lines: int = 1
    is_poison: bool = False
    has_hook: bool = False
    #: An image by URL, which a courier fetches first.
    has_url: bool = False
    #: An image in the request.
    has_image: bool = False
    #: Seconds after which it is cancelled.
    cancel_s: float | None = None
    start_deadline_s: float | None = None

    @property
    def prompt(self) -> str:
        """Tells its jobs from all others."""
        return f"{POISON} number {self.number}" if self.is_poison else f"number {self.number}"


def wishes(count: int, *, chance: random.Random, scale: Scale) -> list[Wish]:
    """Return wishes for `count` jobs in all, in the order in which they are asked for."""
    batches = max(1, count // (BATCH_LINES + BATCH_EVERY)) if count > 2 * BATCH_LINES else 0
    poison = max(1, count // POISON_EVERY) if scale.has_poison else 0
    single = count - batches * BATCH_LINES - poison
    makers = [_batch] * batches + [_poison] * poison + [_single] * single
    chance.shuffle(makers)
    return [make(number, chance, scale) for number, make in enumerate(makers)]


def _batch(number: int, chance: random.Random, scale: Scale) -> Wish:
    return Wish(
        number=number,
        dialect="batch",
        account=chance.choice(("first", "second")),
        side=64,
        steps=min(scale.steps),
        seed=chance.randrange(1, 1_000_000),
        lines=BATCH_LINES,
        has_hook=chance.random() < 0.5,
    )


def _poison(number: int, chance: random.Random, scale: Scale) -> Wish:
    return replace(
        _single(number, chance, scale), dialect="native", is_poison=True, start_deadline_s=None, cancel_s=None
    )


def _single(number: int, chance: random.Random, scale: Scale) -> Wish:
    account, dialect = _drawn(chance, ACCOUNTS), _drawn(chance, MIX)
    # It may run two at once: callers who wait for their picture would outlast their patience.
    dialect = "native" if account == "free" else dialect
    kind = chance.random() if dialect == "native" else 1.0
    return Wish(
        number=number,
        dialect=dialect,
        account=account,
        side=chance.choice(scale.sides),
        steps=chance.choice(scale.steps),
        seed=chance.randrange(1, 1_000_000),
        images=chance.choice((1, 1, 1, 2)) if dialect in {"native", "modelslab", "opensourceais"} else 1,
        has_hook=dialect in {"native", "modelslab"} and chance.random() < 0.6,
        has_url=kind < 0.08,
        has_image=0.08 <= kind < 0.16,
        cancel_s=chance.uniform(0, 0.6) if 0.16 <= kind < 0.28 else None,
        start_deadline_s=1.0 if 0.28 <= kind < 0.32 else None,
    )


def _drawn(chance: random.Random, shares: tuple[tuple[str, int], ...]) -> str:
    names, weights = zip(*shares, strict=True)
    return chance.choices(names, weights)[0]
