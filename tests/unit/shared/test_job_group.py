"""Jobs side by side: one that ends takes the others with it."""

from __future__ import annotations

import asyncio

import pytest

from feedmesh.service import job_group


async def for_ever() -> None:
    await asyncio.Event().wait()


async def returns() -> None:
    await asyncio.sleep(0)


async def is_cancelled_by_somebody() -> None:
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.cancel)
    await future


@pytest.mark.parametrize("job", [returns, is_cancelled_by_somebody])
async def test_a_job_that_ends_unasked_ends_all(job: object) -> None:
    with pytest.raises(ExceptionGroup, match="unhandled") as caught:
        async with asyncio.timeout(5):
            await job_group(asyncio.Event(), odd=job, other=for_ever)  # type: ignore[arg-type]

    assert "odd ended although nothing asked it to" in str(caught.value.exceptions[0])


async def test_jobs_end_when_they_are_asked_to() -> None:
    stop = asyncio.Event()
    stop.set()

    await job_group(stop, one=for_ever, other=for_ever)


async def test_jobs_end_with_whoever_runs_them() -> None:
    group = asyncio.create_task(job_group(asyncio.Event(), one=for_ever))
    await asyncio.sleep(0.01)
    group.cancel()
    await asyncio.wait([group])

    assert group.cancelled()
