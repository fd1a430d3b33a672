"""What comes before it may be handled is handled later, in order and with its time."""

from __future__ import annotations

import asyncio

from feedmesh.ingest.held import HeldFrames


class Handler:
    def __init__(self) -> None:
        self.taken: list[tuple[str, bytes, int]] = []

    async def __call__(self, link: str, frame: bytes, received_ns: int) -> None:
        await asyncio.sleep(0)
        self.taken.append((link, frame, received_ns))


async def test_frames_wait_in_order_until_they_are_released() -> None:
    handler = Handler()
    frames = HeldFrames(handler)
    frames.hold()
    await frames.take("a", b"1", 1)
    await frames.take("b", b"2", 2)
    assert not handler.taken

    releasing = asyncio.create_task(frames.release())
    await asyncio.sleep(0)
    await frames.take("a", b"3", 3)
    await releasing
    await frames.take("a", b"4", 4)

    assert handler.taken == [
        ("a", b"1", 1),
        ("b", b"2", 2),
        ("a", b"3", 3),
        ("a", b"4", 4),
    ]


async def test_beyond_the_limit_the_reader_waits() -> None:
    handler = Handler()
    frames = HeldFrames(handler, limit=2)
    frames.hold()
    await frames.take("a", b"12", 1)
    waiting = asyncio.create_task(frames.take("a", b"34", 2))
    await asyncio.sleep(0.01)
    assert not waiting.done()

    await frames.release()
    await waiting

    assert [frame for _, frame, _ in handler.taken] == [b"12", b"34"]


async def test_what_a_term_that_never_began_has_held_is_not_of_the_next_one() -> None:
    handler = Handler()
    frames = HeldFrames(handler)
    frames.hold()
    await frames.take("a", b"1", 1)
    frames.hold()
    await frames.release()

    assert not handler.taken
